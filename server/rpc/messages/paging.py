"""Pages of lists: how many items, and how many bytes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, TypeVar

from google.protobuf.message import Message

from server.services.errors import InvalidInputError

_Message = TypeVar("_Message", bound=Message)

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
PAGE_BYTES: Final = 2 * 1024 * 1024
"""A page ends early rather than grow beyond this: clients refuse messages of more than 4 MiB."""


def page_size(wanted: int) -> int:
    """How many items a page may have, of which `wanted` were asked for, 0 for the default."""
    if wanted < 0:
        raise InvalidInputError.of("page_size", f"{wanted} must be at least 0")
    return min(wanted or DEFAULT_PAGE, MAX_PAGE)


def within_bytes(messages: Sequence[_Message], n_bytes: int = PAGE_BYTES) -> list[_Message]:
    """The first of the messages that together take at most so much; at least one, if there is one."""
    sizes = accumulate(message.ByteSize() for message in messages)
    return list(messages[: max(1, sum(size <= n_bytes for size in sizes))])
