"""The lease of the one server that acts for launches, kept without any wall clock.

The holder raises the lease's beat every 2 s. Another server takes over once it has seen the same beat for
10 s of its own monotonic clock. A holder whose last renewal began more than 6 s ago stops acting, so that no
two act at once while their clocks run at about the same rate. A holder that is frozen between its look at the
lease and its change is stopped by the fence, in the transaction of the change.
"""

import math
from typing import Final

import structlog

from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.store.errors import StoreError
from server.store.records import Lease

CONTROLLER: Final = "controller"
"""The lease of the server that acts for launches."""

BEAT_SECONDS: Final = 2.0
"""How often the holder renews, and the others look."""

_SILENT_SECONDS: Final = 10.0
"""How long others must see the same beat before they take the lease over."""

_ACT_SECONDS: Final = 6.0
"""How long after the start of a renewal the holder may act: less than others wait, who see it later."""

_MOST_CREDIT: Final = 2 * BEAT_SECONDS
"""The most silence that a look can add: nothing is known about times without a look."""

log = structlog.get_logger()


class _Silence:
    """How long a lease has been seen unchanged, counting only times in which a beat could have been seen."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._answered_at = -math.inf
        self.seconds = 0.0

    def note(self, found: Lease, asked_at: float, answered_at: float) -> None:
        """Note a lease that was read between two instants."""
        seen = (found.token, found.beat)
        if seen == self._seen:
            self.seconds += min(asked_at - self._answered_at, _MOST_CREDIT)
        else:
            self._seen, self.seconds = seen, 0.0
        self._answered_at = answered_at


class LeaseKeeper:
    """Takes a lease, keeps it, and knows whether this server may act. Belongs to the event loop's thread.

    Args:
        store: Has the lease.
        clock: Only its monotonic part is read.
        holder: This run of the server, unlike any other.
        name: The lease's name.

    Attributes:
        n_takeovers: How often this run took the lease from a holder that had not released it.
    """

    def __init__(self, store: AsyncStore, clock: Clock, *, holder: str, name: str = CONTROLLER) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._name = name
        self._silence = _Silence()
        self._lease: Lease | None = None
        self._wanted: Lease | None = None
        self._renewed_at = -math.inf
        self._is_late = False
        self._has_ended = False
        self.n_takeovers = 0

    def held(self) -> Lease | None:
        """Return the lease under which this server may act now, to be the fence of it; None if it may not."""
        is_fresh = not self._store.is_shared or self._clock.monotonic() - self._renewed_at <= _ACT_SECONDS
        return self._lease if is_fresh else None

    async def run_once(self) -> None:
        """Renew the lease, or look whether it can be taken. To be repeated every `BEAT_SECONDS`.

        Raises:
            StoreError: Nothing is known about this time; the next run goes on.
        """
        if self._has_ended:
            return
        try:
            if self._lease is None:
                await self._look()
            elif self._store.is_shared:
                await self._renew(self._lease)
        finally:
            self._note_lateness()

    async def release(self) -> None:
        """Free the lease for good, so that another server can take it at once. Never raises StoreError.

        No change under the lease may be begun after this call.
        """
        self._has_ended = True
        lease, self._lease = self._lease or self._wanted, None
        if lease is None:
            return
        try:
            await self._store.release_lease(lease)
        except StoreError as error:
            log.warning("lease.not_released", lease=self._name, token=lease.token, error=str(error))
        else:
            log.info("lease.released", lease=self._name, token=lease.token)

    async def _look(self) -> None:
        asked_at = self._clock.monotonic()
        found = await self._store.read_lease(self._name)
        self._silence.note(found, asked_at, self._clock.monotonic())
        self._wanted = None
        if found.holder == self._holder:  # a takeover of which the answer was lost
            self._note_taken(found, before=None)
            await self._renew(found)
        elif self._is_free(found):
            await self._take_over(found)

    def _is_free(self, found: Lease) -> bool:
        if not self._store.is_shared or found.holder is None:
            return True
        return self._silence.seconds >= _SILENT_SECONDS

    async def _take_over(self, found: Lease) -> None:
        began_at = self._clock.monotonic()
        self._wanted = found.taken_by(self._holder)  # should this task end before the answer is here
        taken = await self._store.take_over_lease(found, self._holder)
        if taken is None:
            self._wanted = None
        else:
            self._renewed_at = began_at
            self.n_takeovers += found.holder is not None
            self._note_taken(taken, before=found.holder)

    def _note_taken(self, lease: Lease, *, before: str | None) -> None:
        self._lease = lease
        log.info("lease.taken", lease=self._name, token=lease.token, holder=self._holder, before=before)

    async def _renew(self, lease: Lease) -> None:
        began_at = self._clock.monotonic()
        self._lease = lease.renewed()  # also without an answer: the beat after an unanswered one is another
        if await self._store.renew_lease(lease) is None:
            self._lease = None
            log.warning("lease.lost", lease=self._name, token=lease.token)
        else:
            self._renewed_at = began_at

    def _note_lateness(self) -> None:
        """Log when the holder stops acting because it could not renew the lease, and when it acts again."""
        is_late = self._lease is not None and self.held() is None
        if is_late and not self._is_late:
            log.warning("lease.late", lease=self._name)
        elif self._is_late and self.held() is not None:
            log.info("lease.renewed", lease=self._name)
        self._is_late = is_late
