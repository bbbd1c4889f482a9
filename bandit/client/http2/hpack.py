"""Header compression for both ends of a connection (RFC 7541): a decoder, and an encoder without state.

The decoder reads field by field and remembers no block, since what a block means depends on those before it.
"""

from typing import Final

from bandit.client.http2.hpack_errors import HpackError, ListTooLargeError
from bandit.client.http2.hpack_integers import encode_integer, read_continuation
from bandit.client.http2.hpack_tables import FIELD_TO_INDEX, NAME_TO_INDEX, STATIC_TABLE, Field
from bandit.client.http2.huffman import decode_huffman

__all__ = ["DEFAULT_TABLE_BYTES", "Decoder", "Field", "HpackError", "ListTooLargeError", "encode_field"]

DEFAULT_TABLE_BYTES: Final = 4_096
"""The size of the dynamic table with which a connection begins (RFC 9113 section 6.5.2)."""

_FIELD_OVERHEAD_BYTES: Final = 32

_INDEXED: Final = 0x80
_ADDED: Final = 0x40
_SIZE_UPDATE: Final = 0x20
"""The lowest first byte of a field in the tables, of a literal that enters the dynamic table, and of a size
update (section 6). Lower ones are of literals that enter no table."""

_INDEX: Final = 0x7F
_ADDED_INDEX: Final = 0x3F
_SIZE: Final = 0x1F
_OTHER_INDEX: Final = 0x0F
"""The bits of such a byte that are an integer's prefix."""

_HUFFMAN: Final = 0x80
_LENGTH: Final = 0x7F
"""The bits of a string's first byte: whether it is coded, and the prefix of its length (section 5.2)."""

_LONG_INDEX: Final = 0xFF
_LONG_INDEX_BYTE: Final = bytes((_LONG_INDEX,))
"""The first byte of an indexed field that has more than one."""

_SHORTEST_KNOWN: Final = 12
"""The fewest coded bytes that are remembered. Timeouts are shorter and differ from call to call: they would
drive out the paths and tokens that come again."""

_LONGEST_KNOWN: Final = 128
_MAX_KNOWN: Final = 64


_Entry = tuple[Field, int]
"""A field and its size, which is 0 for no field."""

_NO_ENTRY: Final[_Entry] = ((b"", b""), 0)


def _entry(name: bytes, value: bytes) -> _Entry:
    return (name, value), len(name) + len(value) + _FIELD_OVERHEAD_BYTES


_STATIC_ENTRIES: Final = (*[_NO_ENTRY] * (_INDEXED + 1), *(_entry(*field) for field in STATIC_TABLE))
"""The static table as a decoder has it: an indexed field is at the place of its first byte."""

_FIRST_DYNAMIC: Final = len(_STATIC_ENTRIES)


class Decoder:
    """One direction of a connection. After an error it must not be used again.

    A field of a table is the same tuple each time, with the same name and value. So whoever remembers a value
    may compare identities first.

    Args:
        table_bytes: The largest dynamic table that the peer was told of, and the one it begins with.
        max_bytes: The largest header list, counted as `n_bytes`.

    Attributes:
        n_bytes: The size of the last list: for each field the lengths of name and value, and 32
            (RFC 9113 section 10.5.1).
        n_changes: How often the dynamic table may have changed: while it stays the same, so does what a block
            of indexed fields stands for.
    """

    __slots__ = (
        "_allowed_bytes",
        "_dynamic_bytes",
        "_entries",
        "_known",
        "_max_bytes",
        "_table_bytes",
        "n_bytes",
        "n_changes",
    )

    def __init__(self, *, table_bytes: int = DEFAULT_TABLE_BYTES, max_bytes: int = 65_536) -> None:
        self.n_bytes = 0
        self.n_changes = 0
        self._max_bytes = max_bytes
        self._allowed_bytes = table_bytes
        self._table_bytes = table_bytes
        self._dynamic_bytes = 0
        # Both tables in one list, so that a lookup is one step. A new entry moves at most 128 pointers.
        self._entries = list(_STATIC_ENTRIES)
        self._known: dict[bytes, bytes] = {}

    def decode(self, block: bytes) -> list[Field]:
        """Return the fields of a whole header block, in order.

        Raises:
            HpackError: The block is malformed, or wants a table larger than allowed.
            ListTooLargeError: The list is larger than `max_bytes`. Only fields up to there were decoded.
        """
        entries = self._entries
        fields: list[Field] = []
        append = fields.append
        n_bytes = 0
        try:
            # Most blocks of a busy connection begin with indexed fields of one byte, or hold nothing else.
            for byte in block.partition(_LONG_INDEX_BYTE)[0]:
                field, size = entries[byte]
                if not size:
                    break
                append(field)
                n_bytes += size
            position = len(fields) or self._read_size_updates(block)
            end = len(block)
            while position < end and n_bytes <= self._max_bytes:
                byte = block[position]
                position += 1
                field, size = entries[byte]
                if not size or byte == _LONG_INDEX:
                    field, size, position = self._read_other(block, position, byte)
                append(field)
                n_bytes += size
        except IndexError:
            raise HpackError("an index is beyond the tables") from None
        if n_bytes > self._max_bytes:
            raise ListTooLargeError(self._max_bytes)
        self.n_bytes = n_bytes
        return fields

    def _read_size_updates(self, block: bytes) -> int:
        """Resize the table as the block's beginning wants it, and return the position of the first field."""
        position = 0
        while position < len(block) and _SIZE_UPDATE <= block[position] < _ADDED:
            n_bytes = block[position] & _SIZE
            position += 1
            if n_bytes == _SIZE:
                n_bytes, position = read_continuation(block, position, _SIZE)
            if n_bytes > self._allowed_bytes:
                raise HpackError(f"a table must have at most {self._allowed_bytes} bytes, got {n_bytes}")
            self._table_bytes = n_bytes
            self.n_changes += 1
            self._evict()
        return position

    def _read_other(self, block: bytes, position: int, byte: int) -> tuple[Field, int, int]:
        """Return a field that begins with `byte` and goes on, its size, and the position after it."""
        if byte > _INDEXED:
            index, position = read_continuation(block, position, _INDEX)
            return *self._entries[_INDEXED + index], position
        if byte == _INDEXED:
            raise HpackError("index 0 stands for no field")
        if _SIZE_UPDATE <= byte < _ADDED:
            raise HpackError("the table's size changes within a block")
        prefix = _ADDED_INDEX if byte >= _ADDED else _OTHER_INDEX
        index = byte & prefix
        if index == prefix:
            index, position = read_continuation(block, position, prefix)
        if index:
            name = self._entries[_INDEXED + index][0][0]
        else:
            name, position = self._read_string(block, position)
        value, position = self._read_string(block, position)
        field = (name, value)
        n_bytes = len(name) + len(value) + _FIELD_OVERHEAD_BYTES
        if byte >= _ADDED:
            self._entries.insert(_FIRST_DYNAMIC, (field, n_bytes))
            self.n_changes += 1
            self._dynamic_bytes += n_bytes
            if self._dynamic_bytes > self._table_bytes:
                self._evict()
        return field, n_bytes, position

    def _read_string(self, block: bytes, position: int) -> tuple[bytes, int]:
        """Return a string literal, decoded, and the position after it."""
        if position >= len(block):
            raise HpackError("the block ends within a field")
        head = block[position]
        n_bytes = head & _LENGTH
        position += 1
        if n_bytes == _LENGTH:
            n_bytes, position = read_continuation(block, position, _LENGTH)
        end = position + n_bytes
        if end > len(block):
            raise HpackError("the block ends within a string")
        string = block[position:end]
        if head < _HUFFMAN:
            return string, end
        if n_bytes < _SHORTEST_KNOWN:
            return decode_huffman(string), end
        return self._known.get(string) or self._learn(string), end

    def _learn(self, coded: bytes) -> bytes:
        """Return a Huffman string decoded, and remember it unless it is long.

        What is remembered is bounded: some 30 kB a connection for a peer that never repeats itself.
        """
        string = decode_huffman(coded)
        if len(coded) <= _LONGEST_KNOWN:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[coded] = string
        return string

    def _evict(self) -> None:
        """Drop the oldest entries until the rest fit. One that is larger than the table leaves none."""
        entries, n_bytes = self._entries, self._dynamic_bytes
        while n_bytes > self._table_bytes:
            n_bytes -= entries.pop()[1]
        self._dynamic_bytes = n_bytes


def encode_field(name: bytes, value: bytes) -> bytes:
    r"""Return a field as a part of any block: indexed in the static table, or a literal that enters no table.

    Nothing is Huffman-coded, and the peer's dynamic table is not used, so encoding needs no state.

    >>> encode_field(b":status", b"200").hex()
    '88'
    >>> encode_field(b"grpc-status", b"0")
    b'\x00\x0bgrpc-status\x010'
    """
    index = FIELD_TO_INDEX.get((name, value))
    if index is not None:
        return encode_integer(index, 7, _INDEXED)
    index = NAME_TO_INDEX.get(name, 0)
    return encode_integer(index, 4) + (b"" if index else _encode_string(name)) + _encode_string(value)


def _encode_string(string: bytes) -> bytes:
    return encode_integer(len(string), 7) + string
