"""Authentication of callers by bearer token or client certificate, with their rates and roles.

Checks are in order of cost: identity, then rate, then role. Requests that are refused are not parsed.
"""

from hashlib import sha256
from typing import Final

from server.rpc.guard.admission import Admission, Identity
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import NO_CREDENTIALS, UNKNOWN_CREDENTIALS, Failure, rate_limited
from server.services.access.callers import ANYONE, Caller, Directory, Role
from server.services.access.rate_limit import Bucket
from server.services.errors import PermissionDeniedError
from server.services.runtime.clock import Clock
from server.services.runtime.reloading_file import ReloadingFile

_SCHEME: Final = "bearer "


class RefusedCallError(Exception):
    """A call that the wire layer refuses, and not a service."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class Authenticator:
    """Admission of callers. Not thread-safe: use it from the event loop's thread only.

    Args:
        tokens: The known callers; None admits everyone as `anyone`.
        clock: The time.
        calls_per_second: The rate limit of callers without one of their own; None for no limit.
    """

    def __init__(
        self, tokens: ReloadingFile[Directory] | None, clock: Clock, *, calls_per_second: float | None
    ) -> None:
        self._tokens = tokens
        self._now = clock.monotonic
        self._calls_per_second = calls_per_second
        self._buckets: dict[str, Bucket] = {}
        self._directory: Directory | None = None
        self._admissions: dict[bytes, Admission] = {}
        self._anyone = self._admit(ANYONE)

    def admit(self, peer: Peer, roles: frozenset[Role]) -> Admission:
        """Return the caller, charged with one call, if it has one of the roles.

        Raises:
            RefusedCallError: The caller is unknown, or exceeds its rate.
            PermissionDeniedError: The caller has none of the roles.
        """
        admission = self._anyone if self._tokens is None else self._identify(peer, self._tokens.value)
        if admission.bucket is not None:
            self.charge(admission.bucket)
        if admission.caller.roles.isdisjoint(roles):
            raise _lacks(admission.caller, roles)
        return admission

    def identify(self, peer: Peer, roles: frozenset[Role]) -> Admission:
        """Return what `admit` returns, without charging the caller."""
        admission = self._anyone if self._tokens is None else self._identify(peer, self._tokens.value)
        if admission.caller.roles.isdisjoint(roles):
            raise _lacks(admission.caller, roles)
        return admission

    def charge(self, bucket: Bucket) -> None:
        """Charge one call; raise RefusedCallError if it exceeds the rate."""
        wait = bucket.take(self._now())
        if wait:
            raise RefusedCallError(rate_limited(bucket.per_second, wait))

    def _identify(self, peer: Peer, directory: Directory) -> Admission:
        """Return what is known of the peer, or find it.

        A peer's `authorization` never changes, so a connection that keeps its peer saves hashing the token.
        """
        identity = peer.identity
        if identity is None or identity.directory is not directory:
            identity = peer.identity = Identity(directory, self._find(peer, directory))
        return identity.admission

    def _find(self, peer: Peer, directory: Directory) -> Admission:
        if directory is not self._directory:  # the file was reloaded: cached admissions may no longer hold
            self._directory = directory
            self._admissions = {}
        header = peer.authorization
        if header is not None:
            return self._identify_token(header, directory)
        if directory.knows_certificates:
            return self._identify_certificate(peer, directory)
        raise RefusedCallError(NO_CREDENTIALS)

    def _identify_token(self, header: str, directory: Directory) -> Admission:
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise RefusedCallError(UNKNOWN_CREDENTIALS)
        digest = sha256(header[len(_SCHEME) :].encode("utf-8", "replace")).digest()
        known = self._admissions.get(digest)
        if known is None:
            caller = directory.find_by_hash(digest)
            if caller is None:
                raise RefusedCallError(UNKNOWN_CREDENTIALS)
            known = self._admissions[digest] = self._admit(caller)
        return known

    def _identify_certificate(self, peer: Peer, directory: Directory) -> Admission:
        for name in peer.certificate_names():
            caller = directory.find_by_certificate(name)
            if caller is not None:
                return self._admit(caller)
        raise RefusedCallError(NO_CREDENTIALS)

    def _admit(self, caller: Caller) -> Admission:
        per_second = caller.calls_per_second or self._calls_per_second
        if per_second is None:
            return Admission(caller, None)
        bucket = self._buckets.get(caller.name)
        if bucket is None or bucket.per_second != per_second:
            bucket = self._buckets[caller.name] = Bucket(per_second, self._now())
        return Admission(caller, bucket)


def _lacks(caller: Caller, roles: frozenset[Role]) -> PermissionDeniedError:
    """Return the error for a caller that has none of the roles."""
    allowed = ", ".join(sorted(roles))
    return PermissionDeniedError(f"caller {caller.name!r} has none of the roles that may do this: {allowed}")
