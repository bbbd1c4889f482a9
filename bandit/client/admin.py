"""The admin calls: `client.admin`, blocking and for asyncio. They need the role of an admin.

They return the messages of `bandit.v1.admin_pb2` and raise the errors of `bandit.client.errors`. `timeout` is
seconds for one call, by default the client's `experiment_timeout`. None of them is retried.
"""

# ruff: noqa: ASYNC109 - a timeout becomes the deadline of the call, which the service sees as well

from __future__ import annotations  # some types are those of the stubs alone

from collections.abc import AsyncIterator, Iterator

from bandit.client.connections import AsyncConnection, Connection
from bandit.v1 import admin_pb2 as pb


class Admin:
    """Blocking admin calls; thread-safe."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    def rotate_decision_key(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Makes a new key sign decisions; returns all keys, the newest first."""
        stub = self._connection.stubs.admin
        request = pb.RotateDecisionKeyRequest()
        response = self._connection.call(stub.RotateDecisionKey, request, timeout or self._timeout)
        return list(response.keys)

    def revoke_decision_key(self, key: int, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Forgets a replaced key that has leaked; returns the others, the newest first."""
        stub = self._connection.stubs.admin
        request = pb.RevokeDecisionKeyRequest(id=key)
        response = self._connection.call(stub.RevokeDecisionKey, request, timeout or self._timeout)
        return list(response.keys)

    def list_decision_keys(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Returns the keys that sign or signed decisions, the newest first."""
        stub = self._connection.stubs.admin
        request = pb.ListDecisionKeysRequest()
        return list(self._connection.call(stub.ListDecisionKeys, request, timeout or self._timeout).keys)

    def list_audit_entries(
        self, *, experiment: str = "", page_size: int = 0, timeout: float | None = None
    ) -> Iterator[pb.AuditEntry]:
        """Yields who changed what, the newest change first; asks for the next page when it is needed."""
        request = pb.ListAuditEntriesRequest(experiment=experiment, page_size=page_size)
        while True:
            stub = self._connection.stubs.admin
            page = self._connection.call(stub.ListAuditEntries, request, timeout or self._timeout)
            yield from page.entries
            request.page_token = page.next_page_token
            if not request.page_token:
                return


class AsyncAdmin:
    """Admin calls for asyncio."""

    def __init__(self, connection: AsyncConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def rotate_decision_key(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """As `Admin.rotate_decision_key`."""
        stub = self._connection.stubs.admin
        request = pb.RotateDecisionKeyRequest()
        response = await self._connection.call(stub.RotateDecisionKey, request, timeout or self._timeout)
        return list(response.keys)

    async def revoke_decision_key(self, key: int, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """As `Admin.revoke_decision_key`."""
        stub = self._connection.stubs.admin
        request = pb.RevokeDecisionKeyRequest(id=key)
        response = await self._connection.call(stub.RevokeDecisionKey, request, timeout or self._timeout)
        return list(response.keys)

    async def list_decision_keys(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """As `Admin.list_decision_keys`."""
        stub = self._connection.stubs.admin
        request = pb.ListDecisionKeysRequest()
        response = await self._connection.call(stub.ListDecisionKeys, request, timeout or self._timeout)
        return list(response.keys)

    async def list_audit_entries(
        self, *, experiment: str = "", page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[pb.AuditEntry]:
        """As `Admin.list_audit_entries`."""
        request = pb.ListAuditEntriesRequest(experiment=experiment, page_size=page_size)
        while True:
            stub = self._connection.stubs.admin
            page = await self._connection.call(stub.ListAuditEntries, request, timeout or self._timeout)
            for entry in page.entries:
                yield entry
            request.page_token = page.next_page_token
            if not request.page_token:
                return
