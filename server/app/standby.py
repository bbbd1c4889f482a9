"""Startup without the store: from a snapshot and keys on disk, or waiting. Keeps both files fresh.

store reached ───────────────────────────▶ serving
store away ──▶ usable snapshot and keys? ──▶ serving from them ─▶ store reached: serving from it
                          └─ no ──▶ waiting, NOT_SERVING ──────▶ store reached: serving
"""

import asyncio
import os
from math import isinf
from typing import Final

import structlog

from server.app.wiring import Services
from server.services.errors import StorageUnavailableError
from server.services.runtime.writer import claim_slot
from server.services.signing_keys.file import KeysFileError, is_open_to_others, read_keys, write_keys
from server.services.signing_keys.rotation import fresh_ring
from server.services.signing_keys.signers import is_same_deployment, signer_of
from server.services.snapshot.file import KeptSnapshot, SnapshotFileError, read_snapshot, write_snapshot
from server.settings import Settings
from server.store.errors import StoreError, StoreUnreachableError
from server.store.records import KeyRing, LiveExperiment

_PAUSE_SECONDS: Final = 1.0
_RENEW_SECONDS: Final = 60.0
"""How old the file gets while nothing changes, and so how much older than the outage it may seem."""

_REASON_SECONDS: Final = 10.0
"""How long a changed reason waits to be logged: hosts that fail by turns would fill the log."""

log = structlog.get_logger()


class Standby:
    """Connects to the store, and restores a snapshot until then. Belongs to the event loop's thread.

    Args:
        settings: The operator's settings.
        services: Have the store to connect to, and the snapshot and keys to restore until then.
        is_keeper: Whether this process writes the files.

    Attributes:
        is_connected: Whether the store was reached.
    """

    def __init__(self, settings: Settings, services: Services, *, is_keeper: bool) -> None:
        self._settings = settings
        self._services = services
        self._store = services.store
        self._snapshot = services.snapshot
        self._clock = services.clock
        self._snapshot_path = settings.snapshot
        self._keys_path = settings.keys
        self._is_keeper = is_keeper
        self._file_ring = self._read_keys()
        self._candidate = self._file_ring or fresh_ring()
        self._ring: KeyRing | None = None
        self._unsaved_ring: KeyRing | None = None
        self._has_served_file = False
        self._saved: list[LiveExperiment] = []
        self._saved_ms = 0
        self._reason = ""
        self._noted_at = 0.0
        self._renew_seconds = min(_RENEW_SECONDS, settings.max_staleness_seconds / 10)
        self.is_connected = False

    async def begin(self) -> bool:
        """Try the store once, otherwise restore the snapshot; return whether calls can be answered.

        Raises:
            StoreError: The store was reached but can't be used, or is a file.
        """
        try:
            await self._reach()
        except (StoreUnreachableError, StorageUnavailableError) as error:
            if not self._store.is_shared and isinstance(error.__cause__, StoreError):
                raise error.__cause__ from None
            self._reason, self._noted_at = _reason_of(error), self._clock.monotonic()
            return self._restore(self._reason)
        return True

    async def connect(self) -> None:
        """Try the store until it is reached, however long that takes.

        Raises:
            StoreError: It was reached but can't be used, and there is no snapshot to serve from.
        """
        logged = ""
        while not self.is_connected:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                await self._reach()
            except (StoreUnreachableError, StorageUnavailableError) as error:
                self._note_reason(_reason_of(error))
            except StoreError as error:
                if not self._snapshot.is_restored:
                    raise
                if str(error) != logged:
                    logged = str(error)
                    log.error("store.unusable", error=logged)  # noqa: TRY400 - the text is for the operator

    def _note_reason(self, reason: str) -> None:
        """Log why the store is away when that has changed, but not often."""
        now = self._clock.monotonic()
        if reason == self._reason or now - self._noted_at < _REASON_SECONDS:
            return
        self._reason, self._noted_at = reason, now
        if self._snapshot.is_restored:
            log.warning("standby.still_away", error=reason)
        else:
            log.warning("standby.waiting", error=reason)

    async def save(self, *, is_last: bool = False) -> None:
        """Write the snapshot file if it lacks something that the store has confirmed, or is getting old.

        Write the keys file too, if that failed when the keys changed.

        Args:
            is_last: Whether the server is stopping, so that the file should be as fresh as possible.
        """
        if self._snapshot_path is None or self._ring is None or not self._is_keeper:
            return
        await asyncio.to_thread(self._save_keys, self._ring)
        if isinf(self._snapshot.age_seconds):  # there are keys, but no experiment yet
            return
        live = [each for each in self._snapshot if each.epoch is not None]
        confirmed_ms = self._clock.time_ms() - round(self._snapshot.age_seconds * 1000)
        is_same = len(live) == len(self._saved) and all(map(_is, live, self._saved))
        renew_seconds = 0.0 if is_last else self._renew_seconds
        if is_same and confirmed_ms - self._saved_ms <= renew_seconds * 1000:
            return
        try:
            await asyncio.to_thread(write_snapshot, self._snapshot_path, live, confirmed_ms, self._ring)
        except OSError as error:
            log.warning("snapshot.not_saved", path=str(self._snapshot_path), error=error.strerror)
        else:
            self._saved, self._saved_ms = live, confirmed_ms

    def take_keys(self, ring: KeyRing) -> None:
        """Sign and verify with the store's keys from now on, and follow their changes."""
        # Not whether the snapshot is the file's still: a poll may have loaded the store's already.
        has_served, self._has_served_file = self._has_served_file, False
        if has_served and self._file_ring is not None and not is_same_deployment(ring, self._file_ring):
            log.error(
                "snapshot.foreign", advice="the database and the keys file are of different deployments"
            )
            self._snapshot.clear()
            self._services.counter.forget()
        keys = self._services.keys
        keys.take(ring)
        self._services.chooser.signer = self._services.ledger.signer = keys.signer
        self._keep_keys(ring)
        keys.on_changed = self._keep_keys

    def _keep_keys(self, ring: KeyRing) -> None:
        """Save the keys for a start without the store."""
        self._ring = ring
        if self._is_keeper:
            self._save_keys(ring)

    def _save_keys(self, ring: KeyRing) -> None:
        """Write the keys file unless it holds these keys; log a failure once per ring."""
        if self._keys_path is None or ring == self._file_ring:
            return
        try:
            write_keys(self._keys_path, ring)
        except OSError as error:
            if ring != self._unsaved_ring:
                log.warning("keys.not_saved", path=str(self._keys_path), error=error.strerror)
            self._unsaved_ring = ring
        else:
            self._file_ring = ring

    async def _reach(self) -> None:
        services = self._services
        await self._store.prepare(may_migrate=self._settings.migrate)
        if services.timekeeper is not None:
            await services.timekeeper.read()  # before anything is written by service time
        ring = await self._store.adopt_keys(self._candidate)
        await claim_slot(self._store, services.writer, self._clock, begin_run=services.counter.begin_run)
        self.take_keys(ring)
        await services.sync.refresh()
        self.is_connected = True

    def _restore(self, error: str) -> bool:
        if self._snapshot_path is None or self._file_ring is None:
            log.warning("standby.waiting", error=error)
            return False
        try:
            kept = read_snapshot(self._snapshot_path, self._file_ring)
        except SnapshotFileError as problem:
            log.warning("snapshot.ignored", reason=str(problem))
            log.warning("standby.waiting", error=error)
            return False
        age_seconds = self._age_of(kept)
        self._snapshot.restore(kept.live, age_seconds)
        self._has_served_file = True
        self._services.chooser.signer = signer_of(self._file_ring, self._clock.now())
        log.warning(
            "standby.serving", error=error, experiments=len(kept.live), age_seconds=round(age_seconds, 1)
        )
        return True

    def _age_of(self, kept: KeptSnapshot) -> float:
        """Return the age of a snapshot in seconds: at least the lag, so that no decision counts as confirmed.

        A snapshot that was confirmed in the future means that a clock was or is wrong: it counts as stale.
        """
        age_seconds = (self._clock.time_ms() - kept.confirmed_ms) / 1000
        if age_seconds >= -self._settings.lag_seconds:
            return max(age_seconds, self._settings.lag_seconds)
        log.warning("snapshot.from_the_future", seconds=round(-age_seconds, 1), advice="check the clock")
        return max(self._settings.max_staleness_seconds, self._settings.lag_seconds)

    def _read_keys(self) -> KeyRing | None:
        if self._keys_path is None:
            return None
        try:
            ring = read_keys(self._keys_path)
        except KeysFileError as error:
            if os.path.lexists(self._keys_path):  # it is missing before the first start
                log.warning("keys.ignored", reason=str(error))
            return None
        if is_open_to_others(self._keys_path):
            advice = "let the server's user own it, with chmod 600"
            log.warning("keys.open_to_others", path=str(self._keys_path), advice=advice)
        return ring


def _reason_of(error: StoreError | StorageUnavailableError) -> str:
    """Why the store is away: a service error has the store's own as its cause."""
    return str(error.__cause__ if isinstance(error, StorageUnavailableError) else error)


def _is(one: object, other: object) -> bool:
    return one is other
