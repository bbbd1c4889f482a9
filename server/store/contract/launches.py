"""The part of a store that keeps the looks at launches, and the requests that moved one.

Threads, atomicity, ownership and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from server.store.records import ExperimentRecord, Lease, NewEvent, StoredLook, VerbRequest

REQUESTS_KEPT: Final = timedelta(days=7)
"""How long a request is remembered, at least."""


class LaunchStore(ABC):
    """The part of a store that keeps the looks at launches, and the requests that moved one."""

    @abstractmethod
    def keep_looks(
        self,
        record: ExperimentRecord,
        looks: Mapping[int, StoredLook],
        happened: Sequence[NewEvent] = (),
        *,
        at: datetime,
        fence: Lease | None = None,
    ) -> bool:
        """Keep the last look at each arm, by its number, in place of the one before, and what it found.

        Args:
            record: The experiment as it was looked at.
            looks: Arm number to look.
            happened: Events of the looks.
            at: When the look was.
            fence: The lease under which it was; None without one.

        Returns:
            False if the experiment has changed since, or was deleted: then nothing is kept.

        Raises:
            LeaseLostError: The lease of `fence` has changed hands.
        """

    @abstractmethod
    def read_looks(self, experiments: Collection[int]) -> Mapping[int, Mapping[int, StoredLook]]:
        """Number of the experiment to arm number to the last look at it; at most a page of experiments."""

    @abstractmethod
    def find_request(self, caller: str, request_id: str) -> VerbRequest | None:
        """The request of this caller and id that was carried out; None if there was none lately."""
