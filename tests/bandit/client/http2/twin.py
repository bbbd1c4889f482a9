"""Our decoder beside that of the `hpack` package: the same fields of each block, or an error of both."""

from dataclasses import dataclass

import hpack

from bandit.client.http2.hpack import DEFAULT_TABLE_BYTES, Decoder, Field, HpackError, ListTooLargeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a decoder makes of the blocks of one connection.

    Attributes:
        lists: The header lists up to the first error.
        is_refused: Whether a block was refused. The blocks after it are not decoded.
        is_too_large: Whether it was refused for the size of its list.
    """

    lists: list[list[Field]]
    is_refused: bool
    is_too_large: bool


def decode_ours(
    blocks: list[bytes], *, table_bytes: int = DEFAULT_TABLE_BYTES, max_bytes: int = 65_536
) -> Verdict:
    """Return the verdict of our decoder."""
    decoder = Decoder(table_bytes=table_bytes, max_bytes=max_bytes)
    lists: list[list[Field]] = []
    for block in blocks:
        try:
            fields = decoder.decode(block)
        except HpackError as error:
            return Verdict(lists=lists, is_refused=True, is_too_large=isinstance(error, ListTooLargeError))
        assert decoder.n_bytes == sum(len(name) + len(value) + 32 for name, value in fields)
        lists.append(fields)
    return Verdict(lists=lists, is_refused=False, is_too_large=False)


def decode_theirs(
    blocks: list[bytes], *, table_bytes: int = DEFAULT_TABLE_BYTES, max_bytes: int = 65_536
) -> Verdict:
    """Return the verdict of the `hpack` package."""
    decoder = hpack.Decoder(max_bytes)
    decoder.header_table_size = decoder.max_allowed_table_size = table_bytes
    lists: list[list[Field]] = []
    for block in blocks:
        try:
            fields = decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            is_too_large = isinstance(error, hpack.OversizedHeaderListError)
            return Verdict(lists=lists, is_refused=True, is_too_large=is_too_large)
        lists.append([(bytes(name), bytes(value)) for name, value in fields])
    return Verdict(lists=lists, is_refused=False, is_too_large=False)


def check_against_twin(
    blocks: list[bytes], *, table_bytes: int = DEFAULT_TABLE_BYTES, max_bytes: int = 65_536
) -> Verdict:
    """Return the verdict of both decoders, and fail if they differ.

    They may differ in why a block is refused that is too large and malformed as well.
    """
    ours = decode_ours(blocks, table_bytes=table_bytes, max_bytes=max_bytes)
    theirs = decode_theirs(blocks, table_bytes=table_bytes, max_bytes=max_bytes)
    assert ours.lists == theirs.lists
    assert ours.is_refused == theirs.is_refused
    assert theirs.is_too_large or not ours.is_too_large
    return ours
