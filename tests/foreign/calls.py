"""Calls as lines for a client of any language, and the outcomes that it prints, a line each."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call.

    Attributes:
        path: `/SERVICE/METHOD`.
        requests: The messages to send; a call that is no stream has one.
        is_stream: Whether both directions are streams.
        authorization: Value of this header; none is sent if it is empty.
        is_compressed: Whether requests are compressed by gzip.
        timeout_us: Deadline in microseconds.
    """

    path: str
    requests: Sequence[bytes]
    is_stream: bool = False
    authorization: str = ""
    is_compressed: bool = False
    timeout_us: int = 60_000_000

    @property
    def line(self) -> str:
        """The line that clients read."""
        fields = (
            "stream" if self.is_stream else "unary",
            self.path,
            self.authorization,
            "gzip" if self.is_compressed else "identity",
            str(self.timeout_us),
            _joined(self.requests),
        )
        return "\t".join(fields)

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Return the call of a line."""
        kind, path, authorization, compression, timeout_us, requests = line.split("\t")
        return cls(
            path=path,
            requests=_split(requests),
            is_stream=kind == "stream",
            authorization=authorization,
            is_compressed=compression == "gzip",
            timeout_us=int(timeout_us),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes:
        code: Number of the status.
        message: Text of the status.
        trailers: Those of the trailing metadata in which the service puts details.
        responses: The messages received.
    """

    code: int
    message: str
    trailers: dict[str, bytes]
    responses: list[bytes]

    @property
    def line(self) -> str:
        """The line that clients print."""
        fields = (
            str(self.code),
            b64encode(self.message.encode()).decode(),
            ",".join(f"{name}={b64encode(value).decode()}" for name, value in self.trailers.items()),
            _joined(self.responses),
        )
        return "\t".join(fields)

    @classmethod
    def of_line(cls, line: str) -> Self:
        """Return the outcome of a line."""
        code, message, trailers, responses = line.split("\t")
        pairs = [pair.split("=", 1) for pair in trailers.split(",") if pair]
        return cls(
            code=int(code),
            message=b64decode(message).decode(),
            trailers={name: b64decode(value) for name, value in pairs},
            responses=_split(responses),
        )


def _joined(messages: Sequence[bytes]) -> str:
    """Return messages in base64, with a comma behind each: so none differs from an empty one."""
    return "".join(f"{b64encode(message).decode()}," for message in messages)


def _split(joined: str) -> list[bytes]:
    return [b64decode(message) for message in joined.split(",")[:-1]]


def path_of(method: str, service: str = "bandit.v1.BanditService") -> str:
    """Return the path of a method."""
    return f"/{service}/{method}"


def encoded(*messages: Message) -> list[bytes]:
    """Return messages as they are sent."""
    return [message.SerializeToString() for message in messages]
