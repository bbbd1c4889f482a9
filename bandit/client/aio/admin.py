"""The admin calls: `client.admin`. They need the role of an admin.

They return the messages of `bandit.v1.admin_pb2` and raise the errors of `bandit.client.errors`, or TypeError
for an argument of a wrong type. `timeout` is in seconds for one call, by default the client's
`experiment_timeout`. None of them is retried.
"""

from __future__ import annotations  # some types exist in the stubs alone

from collections.abc import AsyncIterator

from bandit.client.aio.connection import AsyncCalls
from bandit.client.arguments import build
from bandit.v1 import admin_pb2 as pb
from bandit.v1 import admin_pb2_grpc


class AsyncAdmin(AsyncCalls):
    """Admin calls for asyncio."""

    async def rotate_decision_key(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Make a new key sign decisions; returns all keys, the newest first."""
        request = pb.RotateDecisionKeyRequest()
        response = await self._call(self._stub.RotateDecisionKey, request, timeout)
        return list(response.keys)

    async def revoke_decision_key(self, key: int, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Forget a replaced key that has leaked; returns the others, the newest first."""
        request = build(pb.RevokeDecisionKeyRequest, {"id": "key"}, id=key)
        response = await self._call(self._stub.RevokeDecisionKey, request, timeout)
        return list(response.keys)

    async def list_decision_keys(self, *, timeout: float | None = None) -> list[pb.DecisionKey]:
        """Return the keys that sign or signed decisions, the newest first."""
        request = pb.ListDecisionKeysRequest()
        response = await self._call(self._stub.ListDecisionKeys, request, timeout)
        return list(response.keys)

    async def list_audit_entries(
        self, *, experiment: str = "", page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[pb.AuditEntry]:
        """Yield who changed what, the newest change first; requests each page when it is needed."""
        request = build(pb.ListAuditEntriesRequest, experiment=experiment, page_size=page_size)
        while True:
            page = await self._call(self._stub.ListAuditEntries, request, timeout)
            for entry in page.entries:
                yield entry
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    @property
    def _stub(self) -> admin_pb2_grpc.AdminServiceAsyncStub:
        return self._connection.stubs.admin
