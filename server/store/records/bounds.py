"""What the log knows of the decisions of a batch of rewards."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

from server.store.records.seals import Seal
from server.store.records.writers import EndedRun


class Bounds(NamedTuple):
    """What the log knows of the decisions of a batch of rewards.

    Attributes:
        seals: (Experiment, segment) to its watermarks.
        ended: The run's bits in a decision id to how far the run was counted.
        keys: The ids of the keys in the ring.
    """

    seals: Mapping[tuple[int, int], Seal]
    ended: Mapping[int, EndedRun]
    keys: frozenset[int]

    @classmethod
    def of_rows(cls, seals: Iterable[Any], ended: Iterable[Any], keys: Iterable[Any]) -> Self:
        """From rows of experiment, segment and seal; of run and how it ended; and of ids of keys."""
        return cls(
            {(experiment, segment): Seal(*seal) for experiment, segment, *seal in seals},
            {run: EndedRun(*counted) for run, *counted in ended},
            frozenset(key for (key,) in keys),
        )
