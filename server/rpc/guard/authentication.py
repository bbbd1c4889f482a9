"""Authentication of callers by bearer token or client certificate, with their rates and roles.

Checks are in order of cost: identity, then rate, then role. Requests that are refused are not parsed.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import grpc

from server.rpc.messages.status import NO_CREDENTIALS, UNKNOWN_CREDENTIALS, Failure, rate_limited
from server.services.access.callers import ANYONE, Caller, Directory, Role
from server.services.access.rate_limit import Bucket
from server.services.errors import PermissionDeniedError
from server.services.runtime.clock import Clock
from server.services.runtime.reloading_file import ReloadingFile

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

_HEADER: Final = "authorization"
_SCHEME: Final = "bearer "
_CERTIFICATE_NAMES: Final = ("x509_subject_alternative_name", "x509_common_name")


class RefusedCallError(Exception):
    """A call that the wire layer refuses, and not a service."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class Admission(NamedTuple):
    """An admitted caller.

    Attributes:
        caller: The caller.
        bucket: The caller's permits; None without a rate limit.
    """

    caller: Caller
    bucket: Bucket | None

    def charge(self, n_items: int) -> None:
        """Charge the items of a batch; the first was charged with the call itself."""
        if self.bucket is not None:
            self.bucket.charge(n_items - 1)


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

    def admit(self, context: "Context", roles: frozenset[Role]) -> Admission:
        """Return the caller, if it has one of the roles.

        Raises:
            RefusedCallError: The caller is unknown, or exceeds its rate.
            PermissionDeniedError: The caller has none of the roles.
        """
        admission = self._anyone if self._tokens is None else self._identify(context, self._tokens.value)
        if admission.bucket is not None:
            wait = admission.bucket.take(self._now())
            if wait:
                raise RefusedCallError(rate_limited(admission.bucket.per_second, wait))
        if admission.caller.roles.isdisjoint(roles):
            allowed = ", ".join(sorted(roles))
            raise PermissionDeniedError(
                f"caller {admission.caller.name!r} has none of the roles that may do this: {allowed}"
            )
        return admission

    def _identify(self, context: "Context", directory: Directory) -> Admission:
        if directory is not self._directory:  # the file was reloaded: cached admissions may no longer hold
            self._directory = directory
            self._admissions = {}
        for key, value in context.invocation_metadata() or ():
            if key == _HEADER:
                return self._identify_token(str(value), directory)
        if directory.knows_certificates:
            return self._identify_certificate(context, directory)
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

    def _identify_certificate(self, context: "Context", directory: Directory) -> Admission:
        """Identify by the names in a client certificate, which the handshake has verified."""
        identity = context.auth_context()
        for key in _CERTIFICATE_NAMES:
            for name in identity.get(key, ()):
                caller = directory.find_by_certificate(name.decode("utf-8", "replace"))
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
