"""Our decoder gives what the `hpack` package gives, whatever a peer sends."""

from dataclasses import dataclass

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from bandit.client.http2.hpack import DEFAULT_TABLE_BYTES, Field, encode_field
from bandit.client.http2.huffman import decode_huffman
from tests.bandit.client.http2.twin import check_against_twin


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One block that an encoder sends.

    Attributes:
        fields: The header list.
        is_sensitive: Of each field, whether it is sent as one that is never indexed.
        is_huffman: Whether strings are coded.
        sizes: What the table's size becomes before the block, in this order.
    """

    fields: list[Field]
    is_sensitive: list[bool]
    is_huffman: bool
    sizes: list[int]


names = st.sampled_from([b":path", b":status", b"te", b"grpc-timeout", b"a", b""]) | st.binary(max_size=40)
values = st.sampled_from([b"", b"/", b"200", b"trailers", b"249231u"]) | st.binary(max_size=150)
fields = st.tuples(names, values)
table_sizes = st.sampled_from([0, 32, 33, 80, 256, DEFAULT_TABLE_BYTES]) | st.integers(0, DEFAULT_TABLE_BYTES)
steps = st.builds(
    Step,
    fields=st.lists(fields, max_size=12),
    is_sensitive=st.lists(st.booleans(), min_size=12, max_size=12),
    is_huffman=st.booleans(),
    sizes=st.lists(table_sizes, max_size=2),
)


def encode(steps_of_connection: list[Step]) -> list[bytes]:
    """Return the blocks of a connection, from the encoder of the package."""
    encoder = hpack.Encoder()
    blocks = []
    for step in steps_of_connection:
        for size in step.sizes:
            encoder.header_table_size = size
        listed = [
            hpack.NeverIndexedHeaderTuple(*field) if is_sensitive else hpack.HeaderTuple(*field)
            for field, is_sensitive in zip(step.fields, step.is_sensitive, strict=False)
        ]
        blocks.append(encoder.encode(listed, huffman=step.is_huffman))
    return blocks


@given(st.lists(steps, min_size=1, max_size=8))
def test_what_an_encoder_sends_is_read(connection: list[Step]) -> None:
    """Blocks with evictions, size updates, coded and sensitive fields give the lists that were sent."""
    verdict = check_against_twin(encode(connection))
    assert not verdict.is_refused
    assert verdict.lists == [step.fields for step in connection]


@given(st.lists(steps, min_size=1, max_size=3))
def test_every_truncation_has_the_same_verdict(connection: list[Step]) -> None:
    """A block cut at any byte is refused, or read up to the cut where that is between two fields."""
    *before, last = encode(connection)
    for end in range(len(last)):
        check_against_twin([*before, last[:end]])


@given(st.lists(steps, min_size=1, max_size=4), st.data())
def test_every_changed_byte_has_the_same_verdict(connection: list[Step], data: st.DataObject) -> None:
    """Blocks of which one has another byte, and one more or less, are read or refused as by the package."""
    blocks = encode(connection)
    chosen = data.draw(st.integers(0, len(blocks) - 1), label="block")
    place = data.draw(st.integers(0, len(blocks[chosen])), label="place")
    inserted = data.draw(st.binary(max_size=2), label="inserted")
    blocks[chosen] = blocks[chosen][:place] + inserted + blocks[chosen][place + 1 :]
    check_against_twin(blocks)


@given(st.lists(st.binary(max_size=60), max_size=4), table_sizes)
def test_arbitrary_blocks_have_the_same_verdict(blocks: list[bytes], table_bytes: int) -> None:
    """Bytes that no encoder wrote are read or refused as by the package, for any size of table."""
    check_against_twin(blocks, table_bytes=table_bytes)


@given(st.lists(steps, min_size=1, max_size=4), st.integers(0, 2_000))
def test_the_limit_of_a_list_is_that_of_the_package(connection: list[Step], max_bytes: int) -> None:
    """With any limit, the same lists are too large."""
    check_against_twin(encode(connection), max_bytes=max_bytes)


@given(st.lists(fields, max_size=12))
def test_what_we_encode_is_read_by_both(listed: list[Field]) -> None:
    """Our fields in a row are a block that gives the list, and they leave the dynamic table empty."""
    block = b"".join(encode_field(*field) for field in listed)
    verdict = check_against_twin([block, b"\xbe"])
    assert verdict.lists == [listed]
    assert verdict.is_refused


@given(st.binary(max_size=60))
def test_huffman_strings_are_decoded(string: bytes) -> None:
    """Any string comes back from the package's code for it."""
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(string)
    assert decode_huffman(coded) == string


def test_every_symbol_has_its_code() -> None:
    """Each of the 256 symbols is decoded wherever its code begins within a byte."""
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    for symbol in range(256):
        for n_before in range(8):  # the code of 0 has 5 bits, so each place comes up
            string = b"0" * n_before + bytes([symbol]) + b"~"
            assert decode_huffman(encoder.encode(string)) == string
