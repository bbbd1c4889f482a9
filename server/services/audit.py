"""The audit: who changed what. Entries are written by the store, with the change."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from server.services.errors import StorageAwayError
from server.services.workers import Workers
from server.store.errors import StoreError
from server.store.interface import Store
from server.store.records import AuditEntry

_RETRY_AFTER: Final = timedelta(seconds=1)


class Audit:
    """Reads the audit.

    Args:
        store: Where it is.
        workers: Whose threads wait for the store.
    """

    def __init__(self, store: Store, workers: Workers) -> None:
        self._store = store
        self._workers = workers

    async def list(
        self, before: int | None, limit: int, experiment: str | None, namespaces: Collection[str] | None
    ) -> list[AuditEntry]:
        """At most `limit` entries, the newest first; see `Store.list_audit_entries`."""
        try:
            return await self._workers.read(
                self._store.list_audit_entries, before, limit, experiment, namespaces
            )
        except StoreError as error:
            raise StorageAwayError(_RETRY_AFTER) from error
