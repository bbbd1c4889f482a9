"""What answers a request: the side of a stream that others implement."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final, TypeAlias

Headers: TypeAlias = Mapping[bytes, bytes]
"""The fields of a request by name, pseudo-header fields among them. Of repeated fields it has the first."""


class RequestFault(enum.Enum):
    """Why a request that began will not be served."""

    INCOMPLETE = enum.auto()
    """It did not arrive in time."""

    TOO_MANY_INCOMPLETE = enum.auto()
    """Too many requests of the connection have begun and not arrived."""

    HEADERS_TOO_LARGE = enum.auto()
    BODY_TOO_LARGE = enum.auto()


class Exchange(ABC):
    """The answering side of one stream.

    Attributes:
        takes_pieces: Whether `receive` gets the body as it arrives, instead of `finish` as a whole.
    """

    __slots__ = ()

    takes_pieces: ClassVar[bool] = False

    @property
    def n_unread(self) -> int:
        """Bytes that `receive` got and that are kept until more arrives."""
        return 0

    @abstractmethod
    def finish(self, body: bytes) -> None:
        """Take the end of the request: the whole body, or nothing if it was taken in pieces."""

    @abstractmethod
    def fail(self, fault: RequestFault) -> None:
        """Answer a request that will not be finished."""

    def receive(self, piece: bytes) -> None:  # noqa: B027 - most take no pieces
        """Take a piece of the body, if `takes_pieces`."""

    def flushed(self) -> None:  # noqa: B027 - most have nothing more to send
        """Go on after data waited for the peer's windows: it has been sent."""

    def cancel(self) -> None:  # noqa: B027 - the work of most goes on
        """Note that nobody waits for the response any more: the peer reset the stream, or is gone.

        Not called once the response is complete.
        """


class Over(Exchange):
    """What answers a stream that has ended: nothing.

    Without it a stream and what answered it would refer to each other, and each call would leave a circle for
    Python's collector, which walks all young objects to find those.
    """

    __slots__ = ()

    def finish(self, body: bytes) -> None:
        """Do nothing."""

    def fail(self, fault: RequestFault) -> None:
        """Do nothing."""


OVER: Final = Over()
