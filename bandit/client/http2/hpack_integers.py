"""Integers of header blocks: a prefix of some bits, then seven bits a byte (RFC 7541 section 5.1)."""

from typing import Final

from bandit.client.http2.hpack_errors import HpackError

LARGEST_INTEGER: Final = 2**28
"""The largest index or length that is read. No block is as long, and no table has as many entries."""

_MAX_CONTINUATION_BYTES: Final = 5
_MORE_FOLLOW: Final = 0x80
_BITS: Final = 0x7F


def read_continuation(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Return an integer whose prefix is all ones, and the position of the byte after it.

    Args:
        block: A header block.
        position: Where the byte after the prefix is, or would be.
        prefix: The prefix's value.

    Raises:
        HpackError: The block ends within the integer, or the integer has more than 5 bytes after its prefix,
            or it is larger than `LARGEST_INTEGER`.
    """
    integer = prefix
    continuation = block[position : position + _MAX_CONTINUATION_BYTES]
    for n_before, byte in enumerate(continuation):
        integer += (byte & _BITS) << 7 * n_before
        if byte < _MORE_FOLLOW:
            if integer > LARGEST_INTEGER:
                raise HpackError(f"an integer must be at most {LARGEST_INTEGER}, got {integer}")
            return integer, position + n_before + 1
    if len(continuation) < _MAX_CONTINUATION_BYTES:
        raise HpackError("the block ends within an integer")
    raise HpackError(f"an integer has more than {_MAX_CONTINUATION_BYTES} bytes after its prefix")


def encode_integer(integer: int, n_prefix_bits: int, pattern: int = 0) -> bytes:
    """Return an integer behind the bits of `pattern`, which stand above the prefix.

    >>> encode_integer(1337, 5).hex()
    '1f9a0a'
    """
    largest = (1 << n_prefix_bits) - 1
    if integer < largest:
        return bytes((pattern | integer,))
    encoded = bytearray((pattern | largest,))
    rest = integer - largest
    while rest >= _MORE_FOLLOW:
        encoded.append(_MORE_FOLLOW | rest & _BITS)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
