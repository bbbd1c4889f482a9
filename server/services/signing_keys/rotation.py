"""The keys that sign decisions: loaded from the store, put to use at their time, and rotated.

Until they are loaded, `UnknownKeys` stands in for them.

A rotation has three steps, driven by the clock. The new key is *distributed* to every server; then it
*signs*, and the one before it only *verifies*: as long as decisions live and longer, since a repeated reward
is answered as a duplicate however old it is. Decisions that a replaced key seems to have signed after its
turn are refused, so a leaked key is useless once its last decisions have expired. To make it useless at once,
revoke it: all decisions that it signed, rewarded or not, are then refused as never issued.
"""

import asyncio
import enum
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from bandit.decision_id import Signer
from server.services.errors import (
    RevocationRefusedError,
    RevocationUnsettledError,
    RotationRefusedError,
    StorageUnavailableError,
)
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.signing_keys.signers import GRACE, UnknownKeys, last_ms_of, signer_of
from server.services.snapshot.snapshot import Snapshot
from server.store.errors import KeysNotReadyError
from server.store.records import KeyRing

SECRET_BYTES: Final = 32
_LOOK_SECONDS: Final = 0.1
_UNSETTLED_SECONDS: Final = 15.0
"""The database ends a server's transactions sooner than that, even if the server is frozen."""

log = structlog.get_logger()


class KeyState(enum.StrEnum):
    """The state of a key."""

    DISTRIBUTING = "distributing"
    SIGNING = "signing"
    VERIFYING = "verifying"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key without its secret.

    Attributes:
        id: In [0, 256), as in decision ids.
        state: Its state.
        signs_at: When it begins to sign; None if it has signed from the start.
        signed_until: When the next key begins to sign; None if there is no next key.
    """

    id: int
    state: KeyState
    signs_at: datetime | None
    signed_until: datetime | None


def fresh_ring() -> KeyRing:
    """Return a ring of one new key, for a store without keys."""
    return KeyRing({1: secrets.token_bytes(SECRET_BYTES)}, 1)


class SigningKeys:
    """Keeps the signer up to date with the store's ring. Belongs to the event loop's thread.

    Args:
        store: Has the ring.
        snapshot: The experiments, which limit how long decisions live.
        clock: The time.
        convergence: How soon a change made by one replica is known to all.

    Attributes:
        signer: Signs and reads decisions; replaced when the first ring is taken.
        on_changed: Called with every ring that is taken.
    """

    def __init__(
        self,
        store: AsyncStore,
        snapshot: Snapshot,
        clock: Clock,
        *,
        convergence: timedelta,
    ) -> None:
        self._store = store.for_calls
        self._snapshot = snapshot
        self._clock = clock
        self._ring: KeyRing | None = None
        self._signing_key: int | None = None
        self._delay = convergence if store.is_shared else timedelta()
        self.signer: Signer = UnknownKeys()
        self.on_changed: Callable[[KeyRing], None] = lambda _: None

    def turn(self) -> None:
        """Sign with the key whose time has come."""
        if self._ring is None:
            return
        signing_key = self._ring.signing_key_at(self._clock.now())
        if signing_key != self._signing_key:
            log.info("key.signs", key=signing_key, before=self._signing_key)
            self._signing_key = signing_key
            self.signer.exchange(self._ring.secrets, signing_key, last_ms=last_ms_of(self._ring))

    def take(self, ring: KeyRing) -> None:
        """Use a ring from the store."""
        if ring == self._ring:
            return
        signing_key = ring.signing_key_at(self._clock.now())
        if self._ring is None:
            self.signer = signer_of(ring, self._clock.now())
        else:
            log.info("keys.changed", keys=sorted(ring.secrets))
            self.signer.exchange(ring.secrets, signing_key, last_ms=last_ms_of(ring))
        self._ring, self._signing_key = ring, signing_key
        self.on_changed(ring)

    async def refresh(self) -> None:
        """Take the store's ring; StorageUnavailableError if the store can't be reached."""
        self._take_found(await self._store.poll_keys())

    def _take_found(self, ring: KeyRing | None) -> None:
        if ring is not None:
            self.take(ring)

    async def rotate(self, caller: str) -> list[SigningKey]:
        """Add a key; return once every replica that reaches the store has it, and this one signs with it.

        Raises:
            RotationRefusedError: The last rotation has not settled, no id is left, or the clock, on which
                turns depend, is in doubt.
        """
        if self._clock.is_doubted or not self._clock.is_settled:
            raise RotationRefusedError("the server's clock is in doubt; see `bandit-server clock show`")
        trusted = self._clock.trusted_until()
        try:
            ring = await self._store.rotate_keys(
                secrets.token_bytes(SECRET_BYTES),
                self._clock.now(),
                delay=self._delay,
                ended_before=None if trusted is None else trusted - self._memory(),
                caller=caller,
            )
        except KeysNotReadyError as error:
            raise RotationRefusedError(error.why) from None
        self.take(ring)
        await asyncio.sleep(self._delay.total_seconds())
        self.turn()
        return self.describe(ring)

    async def revoke(self, key: int, caller: str) -> list[SigningKey]:
        """Revoke a replaced key; return once every replica that reaches the store has forgotten it.

        If the outcome of a call is unknown, repeat it: RevocationRefusedError then confirms the revocation.

        Raises:
            RevocationRefusedError: The key signs, or no replica has a key of this id.
            RevocationUnsettledError: It is revoked, but an open transaction may not know that.
        """
        known = await self.read()
        if key not in {each.id for each in known}:
            await self._wait_for_all(key)
            raise RevocationRefusedError(f"there is no key {key}, and no transaction that may still use it")
        try:
            ring = await self._store.revoke_key(key, self._clock.now(), caller=caller)
        except KeysNotReadyError as error:
            raise RevocationRefusedError(error.why) from None
        self.take(ring)
        await self._wait_for_all(key)
        return self.describe(ring)

    async def _wait_for_all(self, key: int) -> None:
        """Wait for transactions, such as a frozen server's, that may have read the ring before it changed."""
        await asyncio.sleep(self._delay.total_seconds())
        give_up_at = self._clock.monotonic() + _UNSETTLED_SECONDS
        mark = await self._store.read_mark()
        while not await self._store.has_passed(mark):
            if self._clock.monotonic() > give_up_at:
                raise RevocationUnsettledError(key)
            await asyncio.sleep(_LOOK_SECONDS)

    async def read(self) -> list[SigningKey]:
        """Return the store's keys, the newest first."""
        self._take_found(await self._store.read_keys())
        if self._ring is None:
            raise StorageUnavailableError
        return self.describe(self._ring)

    def describe(self, ring: KeyRing) -> list[SigningKey]:
        """Return the keys of a ring, the newest first."""
        now = self._clock.now()
        keys = [
            SigningKey(
                id=key,
                state=self._state(ring, key, now),
                signs_at=at if (at := ring.signs_at.get(key)) is None or at.timestamp() > 0 else None,
                signed_until=ring.signed_until(key),
            )
            for key in ring.secrets
        ]
        return sorted(keys, key=lambda key: (key.id != ring.signing_key, _newest_first(key)))

    def _state(self, ring: KeyRing, key: int, now: datetime) -> KeyState:
        if key == ring.signing_key_at(now):
            return KeyState.SIGNING
        at, end = ring.signs_at.get(key), ring.signed_until(key)
        if at is not None and at > now:
            return KeyState.DISTRIBUTING
        is_over = end is not None and end + self._memory() <= now
        return KeyState.RETIRED if is_over else KeyState.VERIFYING

    def _memory(self) -> timedelta:
        """Return how long after its turn a key's decisions may be accepted as new."""
        ages = [live.record.experiment.max_decision_age for live in self._snapshot]
        return max(ages, default=timedelta()) + GRACE


def _newest_first(key: SigningKey) -> float:
    return 0.0 if key.signs_at is None else -key.signs_at.timestamp()
