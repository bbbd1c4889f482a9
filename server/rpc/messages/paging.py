"""Pages of lists: limits on their items and bytes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, TypeVar

from google.protobuf.message import Message

from server.services.errors import InvalidInputError

_Message = TypeVar("_Message", bound=Message)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page ends early rather than exceed this: clients refuse messages of more than 4 MiB."""


def page_size(requested: int) -> int:
    """Return the most items of a page; 0 requests the default. Raises InvalidInputError if negative."""
    if requested < 0:
        raise InvalidInputError.of("page_size", f"must be at least 0, got {requested}")
    return min(requested or DEFAULT_PAGE, MAX_PAGE)


def within_bytes(messages: Sequence[_Message], n_bytes: int = PAGE_BYTES) -> list[_Message]:
    """Return the first messages that together take at most `n_bytes`; at least one, unless there are none."""
    sizes = accumulate(message.ByteSize() for message in messages)
    return list(messages[: max(1, sum(size <= n_bytes for size in sizes))])
