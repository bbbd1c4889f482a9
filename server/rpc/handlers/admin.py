"""AdminService: signing keys and the audit on the wire."""

from typing import Final

from bandit.v1 import admin_pb2
from bandit.validation import is_experiment_name, shown
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import parse
from server.rpc.messages.paging import page_size, within_bytes
from server.rpc.messages.times import to_timestamp
from server.services.errors import InvalidInputError
from server.services.runtime.async_store import AsyncStore
from server.services.signing_keys.rotation import KeyState, SigningKey, SigningKeys
from server.store.records import AuditEntry

_STATES: Final = {
    KeyState.DISTRIBUTING: admin_pb2.DECISION_KEY_STATE_DISTRIBUTING,
    KeyState.SIGNING: admin_pb2.DECISION_KEY_STATE_SIGNING,
    KeyState.VERIFYING: admin_pb2.DECISION_KEY_STATE_VERIFYING,
    KeyState.RETIRED: admin_pb2.DECISION_KEY_STATE_RETIRED,
}
_LARGEST_NUMBER: Final = 2**63 - 1


class AdminService:
    """Methods from request bytes to response bytes.

    Args:
        keys: The keys that sign decisions.
        store: Has the audit: who changed what.
    """

    def __init__(self, keys: SigningKeys, store: AsyncStore) -> None:
        self._keys = keys
        self._store = store.for_calls

    async def rotate_decision_key(self, data: bytes, admission: Admission) -> bytes:
        """RotateDecisionKey."""
        parse(admin_pb2.RotateDecisionKeyRequest, data)
        admission.caller.require_everything()
        keys = await self._keys.rotate(admission.caller.name)
        return admin_pb2.RotateDecisionKeyResponse(keys=map(_to_key, keys)).SerializeToString()

    async def revoke_decision_key(self, data: bytes, admission: Admission) -> bytes:
        """RevokeDecisionKey."""
        request = parse(admin_pb2.RevokeDecisionKeyRequest, data)
        admission.caller.require_everything()
        if not request.HasField("id"):
            raise InvalidInputError.of("id", "is missing: name the key to revoke")
        keys = await self._keys.revoke(request.id, admission.caller.name)
        return admin_pb2.RevokeDecisionKeyResponse(keys=map(_to_key, keys)).SerializeToString()

    async def list_decision_keys(self, data: bytes, admission: Admission) -> bytes:
        """ListDecisionKeys."""
        parse(admin_pb2.ListDecisionKeysRequest, data)
        admission.caller.require_everything()
        keys = await self._keys.read()
        return admin_pb2.ListDecisionKeysResponse(keys=map(_to_key, keys)).SerializeToString()

    async def list_audit_entries(self, data: bytes, admission: Admission) -> bytes:
        """ListAuditEntries."""
        request = parse(admin_pb2.ListAuditEntriesRequest, data)
        if request.experiment:
            admission.caller.require_experiment(request.experiment)
            if not is_experiment_name(request.experiment):
                raise InvalidInputError.of(
                    "experiment", f"{shown(request.experiment)} is not an experiment's name"
                )
        size = page_size(request.page_size)
        before = _from_token(request.page_token)
        namespaces = admission.caller.namespaces
        found = await self._store.list_audit_entries(before, size + 1, request.experiment or None, namespaces)
        page = within_bytes([_to_entry(entry) for entry in found[:size]])
        token = str(page[-1].number) if len(found) > len(page) else ""
        return admin_pb2.ListAuditEntriesResponse(entries=page, next_page_token=token).SerializeToString()


def _to_key(key: SigningKey) -> admin_pb2.DecisionKey:
    return admin_pb2.DecisionKey(
        id=key.id,
        state=_STATES[key.state],
        sign_time=None if key.signs_at is None else to_timestamp(key.signs_at),
        replace_time=None if key.signed_until is None else to_timestamp(key.signed_until),
    )


def _to_entry(entry: AuditEntry) -> admin_pb2.AuditEntry:
    return admin_pb2.AuditEntry(
        number=entry.number,
        time=to_timestamp(entry.at),
        caller=entry.caller,
        action=entry.action,
        experiment=entry.experiment or "",
        before=entry.before or "",
        after=entry.after or "",
    )


def _from_token(token: str) -> int | None:
    if not token:
        return None
    if not (token.isascii() and token.isdecimal()) or int(token) > _LARGEST_NUMBER:
        raise InvalidInputError.of("page_token", f"{shown(token)} is not a token of this service")
    return int(token)
