"""This run of the server, as the store knows it."""

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from server.services.clock import Clock
from server.services.workers import Workers
from server.store.errors import RunTakenError
from server.store.interface import Store

if TYPE_CHECKING:
    from server.services.counting import DecisionCounter

log = structlog.get_logger()


@dataclass(slots=True)
class Writer:
    """A writer of facts.

    Attributes:
        incarnation: Random mark of the run, 16 bytes; its first 24 bits stand for the run in decision ids.
            Another one once the store has ended the run, or knows another of those bits.
        slot: Where it counts; another one once the store has given the first away.
    """

    incarnation: bytes
    slot: int


async def claim_slot(
    store: Store, workers: Workers, writer: Writer, counter: "DecisionCounter", clock: Clock
) -> None:
    """Says that a writer lives, and takes another slot, or another incarnation, where it has to.

    Raises:
        StoreError: Neither was changed but to an incarnation that nobody has.
    """
    while True:
        try:
            writer.slot = await workers.write(store.claim_slot, writer.incarnation, clock.now())
        except RunTakenError:
            before, writer.incarnation = writer.incarnation, secrets.token_bytes(16)
            log.warning(
                "run.changed",
                before=before.hex()[:8],
                now=writer.incarnation.hex()[:8],
                dropped_decisions=counter.begin_run(),
            )
        else:
            return
