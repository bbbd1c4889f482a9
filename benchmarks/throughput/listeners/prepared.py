"""Requests as the bytes of HTTP/2 that the load client sends, prepared before the clock runs."""

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import pack

from hpack import Encoder


class Deadline(enum.Enum):
    """What callers say about their deadlines."""

    NONE = "no deadline"
    EQUAL = "equal deadlines"
    CHANGING = "inherited deadlines"
    """What is left of an earlier deadline: another number of microseconds on each call, as grpc-go sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What the headers of a call say.

    Attributes:
        method: The full name of the RPC.
        authority: The server, HOST:PORT.
        deadline: How its deadline is written.
        token: The caller's token, if there is one.
        is_tls: Whether the connection is encrypted.
    """

    method: str
    authority: str
    deadline: Deadline = Deadline.NONE
    token: str | None = None
    is_tls: bool = False

    def fields(self, generator: random.Random) -> list[tuple[str, str]]:
        """Return the fields in the order of grpc-go."""
        fields = [
            (":method", "POST"),
            (":scheme", "https" if self.is_tls else "http"),
            (":path", self.method),
            (":authority", self.authority),
            ("content-type", "application/grpc"),
            ("user-agent", "grpc-go/1.76.0"),
            ("te", "trailers"),
        ]
        if self.token is not None:
            fields.append(("authorization", f"Bearer {self.token}"))
        if self.deadline is Deadline.EQUAL:
            fields.append(("grpc-timeout", "5S"))
        if self.deadline is Deadline.CHANGING:
            fields.append(("grpc-timeout", f"{generator.randrange(4_000_000, 5_000_000)}u"))
        return fields


def write_requests(path: Path, heading: Heading, messages: Sequence[bytes], n_connections: int) -> None:
    """Write a file for the load client, in which each connection has a slice of the messages.

    Args:
        path: The file.
        heading: The headers of every call.
        messages: At least one for each connection.
        n_connections: The number of slices.
    """
    n_each = len(messages) // n_connections
    with path.open("wb") as file:
        file.write(pack(">I", n_connections))
        for number in range(n_connections):
            part = messages[number * n_each : (number + 1) * n_each]
            file.write(pack(">I", len(part)))
            for block, message in zip(_blocks(heading, number), part, strict=False):
                body = b"\x00" + pack(">I", len(message)) + message
                file.write(pack(">I", len(block)) + block + pack(">I", len(body)) + body)


def _blocks(heading: Heading, seed: int) -> Iterator[bytes]:
    """Yield header blocks of one connection for ever; each may refer to the entries of those before it.

    The first refers to none, and entries count from the newest, so that the load client may begin again.
    """
    generator = random.Random(seed)
    encoder = Encoder()
    yield encoder.encode(heading.fields(generator))
    if heading.deadline is Deadline.CHANGING:
        while True:
            yield encoder.encode(heading.fields(generator))
    indexed = encoder.encode(heading.fields(generator))
    while True:
        yield indexed
