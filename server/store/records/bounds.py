"""What recording a reward has to know of its decision, and what ending a run of a server did."""

from collections.abc import Mapping
from typing import NamedTuple

from server.store.records.seals import Seal


class EndedRun(NamedTuple):
    """A run of a server that ended before all its decisions were counted.

    Attributes:
        sequence: Its last flush that was added.
        flushed_ms: No decision that a later flush would have carried was made before, in milliseconds.
    """

    sequence: int
    flushed_ms: int


class Bounds(NamedTuple):
    """What the log knows of the decisions of a batch of rewards.

    Attributes:
        seals: (Experiment, segment) to how far it takes nothing any more.
        ended: The run's bits in a decision id to how far the run was counted.
        keys: The ids of the keys in the ring.
    """

    seals: Mapping[tuple[int, int], Seal]
    ended: Mapping[int, EndedRun]
    keys: frozenset[int]


class MoveStep(NamedTuple):
    """What one transaction did to set outcomes of uncounted decisions apart from those that are compared.

    Attributes:
        n_rows: Rows of the log that it changed.
        experiments: Whose facts changed.
        is_done: Whether nothing is left of that run.
    """

    n_rows: int
    experiments: frozenset[int]
    is_done: bool
