"""A limit on the series of a metric, so that names chosen by callers can't grow a scrape without end."""

from collections import Counter
from typing import Final

from bandit.validation import namespace_of
from server.store.records import ExperimentRecord

OTHER: Final = "(other)"
"""The label of the sum of all other series; no experiment, arm or metric can have this name."""

_SHARE_OF_ONE: Final = 2
"""A namespace may take at most the total divided by this, so that it can't crowd out the others."""


class SeriesLimit:
    """Admits series in the order in which they are first seen, for good: a counter never decreases.

    Args:
        most: The maximum number of series.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._admitted: set[tuple[int, ...]] = set()
        self._refused: set[tuple[int, ...]] = set()
        self._n_of_namespace: Counter[str] = Counter()

    def admits(self, key: tuple[int, ...], record: ExperimentRecord | None) -> bool:
        """True if a series has labels of its own; False if it is summed with the others.

        Args:
            key: Numbers of the experiment, and of its arm and metric if any.
            record: The experiment; None if it was deleted, and then only series refused before are summed.
        """
        if key in self._admitted:
            return True
        if record is None or key in self._refused:
            return key not in self._refused
        namespace = namespace_of(record.name)
        n_inside = self._n_of_namespace[namespace]
        if len(self._admitted) >= self._most or n_inside >= self._most // _SHARE_OF_ONE:
            self._refused.add(key)
            return False
        self._n_of_namespace[namespace] += 1
        self._admitted.add(key)
        return True
