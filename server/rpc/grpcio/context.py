"""What grpc.aio calls a context: its peer for the guard, and how a call fails."""

from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from server.rpc.guard.admission import Identity
from server.rpc.messages.status import Failure

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_HEADER: Final = "authorization"
_CERTIFICATE_NAMES: Final = ("x509_subject_alternative_name", "x509_common_name")


class ContextPeer:
    """The peer of one call. It reads nothing before it is asked.

    Args:
        context: The call.
    """

    __slots__ = ("_context", "identity")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.identity: Identity | None = None

    @property
    def authorization(self) -> str | None:
        """See `Peer`."""
        for key, value in self._context.invocation_metadata() or ():
            if key == _HEADER:
                return str(value)
        return None

    @property
    def name(self) -> str:
        """See `Peer`."""
        return self._context.peer()

    def certificate_names(self) -> Iterator[str]:
        """See `Peer`."""
        identity = self._context.auth_context()
        for key in _CERTIFICATE_NAMES:
            for name in identity.get(key, ()):
                yield name.decode("utf-8", "replace")


async def fail(context: Context, failure: Failure) -> NoReturn:
    """End a call or stream with a failure, by the exception that grpc.aio expects of its handler."""
    await context.abort(failure.code, failure.message, failure.trailing_metadata)
    raise AssertionError("abort raises")
