"""Epochs of rewarded decisions: looked up in the store by key, in batches, and cached."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, NamedTuple

from server.services.runtime.clock import Clock
from server.services.snapshot.snapshot import Snapshot
from server.store.records import EpochKey, EpochTerms

_MOST_BYTES: Final = 32 * 1024 * 1024
"""Memory for epochs that were looked up: about sixty thousand of a few arms; the oldest go first."""

_MOST_ABSENT: Final = 10_000


class EpochClaim(NamedTuple):
    """A decision's claim about its epoch.

    Attributes:
        key: The key of the epoch.
        nonce: The nonce of the epoch in force when the decision was made.
    """

    key: EpochKey
    nonce: int


class KnownEpochs:
    """The epochs known here, and lookups of others in the store. Belongs to the event loop's thread.

    Epochs never change, so a found epoch stays valid. A missing epoch stays missing for the claims asked
    about: the server that made a decision had stored its epoch before.

    Args:
        snapshot: Has the epochs in force.
        find: Looks up the existing ones of some epochs, as `AsyncStore.for_calls` does.
        clock: The time.
        memory_seconds: How long to remember that the store has no such epoch.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        find: Callable[[Collection[EpochKey]], Awaitable[Mapping[EpochKey, EpochTerms]]],
        clock: Clock,
        *,
        memory_seconds: float,
    ) -> None:
        self._snapshot = snapshot
        self._find = find
        self._clock = clock
        self._memory = memory_seconds
        self._found: dict[EpochKey, EpochTerms] = {}
        self._n_bytes = 0
        self._absent: dict[EpochClaim, float] = {}
        self._next: asyncio.Task[Mapping[EpochKey, EpochTerms]] | None = None
        self._running: asyncio.Task[Mapping[EpochKey, EpochTerms]] | None = None
        self._next_keys: set[EpochKey] = set()

    def nonce_of(self, experiment: int, segment: int, number: int) -> int | None:
        """Return the epoch's nonce in the store; None if the epoch is not known here."""
        live = self._snapshot.find_live(experiment)
        epoch = None if live is None else live.epoch
        if epoch is not None and epoch.number == number and epoch.segment == segment:
            return epoch.nonce
        found = self._found.get(EpochKey(experiment, segment, number))
        return None if found is None else found.nonce

    def is_answered(self, claim: EpochClaim) -> bool:
        """Return whether the store answered recently that it has no such epoch."""
        return self._clock.monotonic() - self._absent.get(claim, float("-inf")) < self._memory

    async def ask(self, claims: Collection[EpochClaim]) -> None:
        """Look up these epochs. Concurrent calls share a query.

        Raises:
            StorageUnavailableError: The store can't be reached.
        """
        if not claims:
            return
        self._next_keys.update(claim.key for claim in claims)
        if self._next is None:
            self._next = asyncio.create_task(self._look_up(self._running))
        asked_at = self._clock.monotonic()
        found = await asyncio.shield(self._next)
        for claim in claims:
            if claim.key not in found:
                self._note_absent(claim, asked_at)

    async def end(self) -> None:
        """Cancel the queries in progress."""
        tasks = [task for task in (self._next, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(
        self, before: "asyncio.Task[Mapping[EpochKey, EpochTerms]] | None"
    ) -> Mapping[EpochKey, EpochTerms]:
        """Wait for the query in progress, then look up all epochs requested meanwhile."""
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        keys, self._next_keys = self._next_keys, set()
        found = await self._find(keys)
        for key, terms in found.items():
            self._remember(key, terms)
        return found

    def _remember(self, key: EpochKey, terms: EpochTerms) -> None:
        if key in self._found:
            return
        self._found[key] = terms
        self._n_bytes += terms.n_bytes
        while self._n_bytes > _MOST_BYTES:
            self._n_bytes -= self._found.pop(next(iter(self._found))).n_bytes

    def _note_absent(self, claim: EpochClaim, asked_at: float) -> None:
        self._absent.pop(claim, None)
        if len(self._absent) >= _MOST_ABSENT:
            self._absent.pop(next(iter(self._absent)))
        self._absent[claim] = asked_at
