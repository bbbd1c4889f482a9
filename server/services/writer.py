"""This run of the server, as the store knows it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Writer:
    """A writer of facts.

    Attributes:
        incarnation: Random mark of the run, 16 bytes.
        slot: Where it counts; another one once the store has given the first away.
    """

    incarnation: bytes
    slot: int
