"""The keys that sign decisions, in a SQL database; see `KeyStore` for the contract."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import override

from server.store.contract.signing_keys import KeyStore
from server.store.errors import KeysNotReadyError
from server.store.records import ANYONE, Action, KeyRing
from server.store.sql_store.part import SqlPart
from server.store.tables import audit
from server.store.tables import signing_keys as statements
from server.store.tables.schema import signing_keys


class SqlKeyStore(SqlPart, KeyStore):
    """Keeps the ring of keys."""

    @override
    def adopt_keys(self, candidate: KeyRing) -> KeyRing:
        def adopt(connection: Connection) -> KeyRing:
            self._dialect.lock_tables(connection, signing_keys)
            return statements.read(connection) or statements.insert_all(connection, candidate)

        return self._dialect.write(adopt)

    @override
    def read_keys(self) -> KeyRing | None:
        return self._dialect.read(statements.read)

    @override
    def rotate_keys(
        self,
        secret: bytes,
        now: datetime,
        *,
        delay: timedelta,
        ended_before: datetime | None,
        caller: str = ANYONE,
    ) -> KeyRing:
        def rotate(connection: Connection, ring: KeyRing, at: datetime) -> KeyRing:
            if secret in ring.secrets.values():
                return ring
            return statements.rotate(connection, ring, secret, at, delay=delay, ended_before=ended_before)

        return self._change_keys(rotate, Action.ROTATE_KEY, now, caller)

    @override
    def revoke_key(self, key: int, now: datetime, *, caller: str = ANYONE) -> KeyRing:
        def revoke(connection: Connection, ring: KeyRing, at: datetime) -> KeyRing:
            return statements.revoke(connection, ring, key, at) if key in ring.secrets else ring

        return self._change_keys(revoke, Action.REVOKE_KEY, now, caller)

    def _change_keys(
        self,
        change: Callable[[Connection, KeyRing, datetime], KeyRing],
        action: Action,
        now: datetime,
        caller: str,
    ) -> KeyRing:
        """Change the ring, with an entry for the audit unless it is the same afterwards."""

        def run(connection: Connection) -> KeyRing:
            self._dialect.lock_tables(connection, signing_keys)
            ring = statements.read(connection)
            if ring is None:
                raise KeysNotReadyError("there are no keys yet")
            changed = change(connection, ring, now)
            if changed is not ring:
                before, after = audit.describe_keys(ring), audit.describe_keys(changed)
                audit.write(connection, now, caller, action, before=before, after=after)
            return changed

        return self._dialect.write(run)

    @override
    def read_mark(self) -> int:
        return self._dialect.read(self._dialect.read_horizon)

    @override
    def has_passed(self, mark: int) -> bool:
        return not self._dialect.is_shared or self._dialect.read(self._dialect.read_watermark) >= mark
