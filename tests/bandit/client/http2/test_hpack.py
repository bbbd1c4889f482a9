"""The decoder of header blocks follows RFC 7541, refuses what breaks it, and stays within its limits."""

import time
import tracemalloc

import pytest

from bandit.client.http2.hpack import Decoder, Field, HpackError, ListTooLargeError, encode_field

NEW_NAME = "4001610162"  # a: b, enters the table
NEWEST = "be"


def decode(decoder: Decoder, block: str) -> list[Field]:
    """Return the fields of a block that is written in hexadecimal digits."""
    return decoder.decode(bytes.fromhex(block))


REQUESTS = [
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
RESPONSES = [
    [
        (b":status", b"302"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"307"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", b"https://www.example.com"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]


@pytest.mark.parametrize(
    ("block", "field", "enters_the_table"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), True),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), False),
        ("100870617373776f726406736563726574", (b"password", b"secret"), False),
        ("82", (b":method", b"GET"), False),
    ],
    ids=["added", "not_added", "never_indexed", "indexed"],
)
def test_each_kind_of_field_is_read(block: str, field: Field, enters_the_table: bool) -> None:  # noqa: FBT001 - a case
    """The examples of appendix C.2: four kinds of fields, of which one enters the table."""
    decoder = Decoder()
    assert decode(decoder, block) == [field]
    if enters_the_table:
        assert decode(decoder, NEWEST) == [field]
    else:
        with pytest.raises(HpackError, match="beyond the tables"):
            decode(decoder, NEWEST)


@pytest.mark.parametrize(
    ("table_bytes", "blocks", "lists"),
    [
        (
            4_096,
            [
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            REQUESTS,
        ),
        (
            4_096,
            [
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
            REQUESTS,
        ),
        (
            256,
            [
                (
                    "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768"
                    "747470733a2f2f7777772e6578616d706c652e636f6d"
                ),
                "4803333037c1c0bf",
                (
                    "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153"
                    "444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e"
                    "3d31"
                ),
            ],
            RESPONSES,
        ),
        (
            256,
            [
                (
                    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8"
                    "e9ae82ae43d3"
                ),
                "4883640effc1c0bf",
                (
                    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
                    "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
                ),
            ],
            RESPONSES,
        ),
    ],
    ids=["requests", "requests_huffman", "responses", "responses_huffman"],
)
def test_blocks_of_a_connection_follow_each_other(
    table_bytes: int, blocks: list[str], lists: list[list[Field]]
) -> None:
    """The examples of appendix C.3 to C.6: requests, and responses that evict, plain and Huffman-coded."""
    decoder = Decoder(table_bytes=table_bytes)
    assert [decode(decoder, block) for block in blocks] == lists


def test_the_table_after_evictions_is_that_of_the_rfc() -> None:
    """After the responses of appendix C.5 three entries of 215 bytes remain, and the oldest is `date`."""
    decoder = Decoder(table_bytes=256)
    for name, value in [field for fields in RESPONSES for field in fields][-5:]:
        decoder.decode(b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value)
    assert decode(decoder, "bebfc0") == [RESPONSES[2][5], RESPONSES[2][4], RESPONSES[2][3]]
    with pytest.raises(HpackError, match="beyond the tables"):
        decode(decoder, "c1")


def test_the_size_of_a_list_counts_32_bytes_a_field() -> None:
    """`n_bytes` is the sum of names, values and 32 for each field, of the last block."""
    decoder = Decoder()
    decode(decoder, "400a637573746f6d2d6b65790d637573746f6d2d686561646572")
    assert decoder.n_bytes == 55
    decode(decoder, "8286" + NEWEST)
    assert decoder.n_bytes == 42 + 43 + 55
    decode(decoder, "")
    assert decoder.n_bytes == 0


def test_an_entry_is_the_same_object_each_time() -> None:
    """Whoever keeps the value of a table's field may compare identities."""
    decoder = Decoder()
    [added] = decode(decoder, NEW_NAME)
    [found] = decode(decoder, NEWEST)
    assert found is added
    assert decode(decoder, "84")[0][1] is decode(decoder, "84")[0][1]


def test_a_repeated_huffman_string_is_the_same_object() -> None:
    """A path that enters no table, as nghttp2 sends it, is decoded once."""
    decoder = Decoder()
    block = "04966231d52192bf70af74754864ee2d9dcc42b17a739d05"
    [(_, first)] = decode(decoder, block)
    [(_, second)] = decode(decoder, block)
    assert first == b"/bandit.v1.BanditService/Choose"
    assert second is first


def test_remembered_strings_are_bounded() -> None:
    """A peer that never repeats itself makes a decoder remember 64 strings at most, and none that is long."""
    decoder = Decoder()
    for number in range(1_000):
        coded = bytes(0xF8 + number // 6**place % 6 for place in range(12))  # six symbols have 8 bits
        decoder.decode(b"\x00\x00\x8c" + coded)
        assert 0 < len(decoder._known) <= 64
    n_known = len(decoder._known)
    decoder.decode(b"\x00\x00\xff\x02" + b"\xf8" * 129)
    assert len(decoder._known) == n_known


def test_an_index_may_have_several_bytes() -> None:
    """Entries beyond index 126 are found: the 66th of the dynamic table has index 127."""
    decoder = Decoder()
    for number in range(70):
        decoder.decode(b"\x40\x01a\x02%02d" % number)
    assert decode(decoder, "ff00fefe8289") == [
        (b"a", b"04"),
        (b"a", b"05"),
        (b"a", b"05"),
        (b":method", b"GET"),
        (b":status", b"204"),
    ]


def test_a_size_of_0_empties_the_table() -> None:
    """After a size update to 0 and back an index of the dynamic table is an error."""
    decoder = Decoder()
    decode(decoder, NEW_NAME)
    assert decode(decoder, "203fe11f") == []
    with pytest.raises(HpackError, match="beyond the tables"):
        decode(decoder, NEWEST)


def test_a_table_of_0_bytes_takes_no_entry() -> None:
    """While the table's size is 0, a field that is to be added is read and enters nothing."""
    decoder = Decoder()
    assert decode(decoder, "20" + NEW_NAME) == [(b"a", b"b")]
    with pytest.raises(HpackError, match="beyond the tables"):
        decode(decoder, NEWEST)


def test_a_smaller_table_evicts_the_oldest_only() -> None:
    """A size update keeps the newest entries that fit."""
    decoder = Decoder()
    decode(decoder, "4001610131" + "4001610132" + "4001610133")
    assert decode(decoder, "3f25" + "bebf") == [(b"a", b"3"), (b"a", b"2")]  # 68 bytes, as both have
    with pytest.raises(HpackError, match="beyond the tables"):
        decode(decoder, "c0")


def test_an_entry_larger_than_the_table_empties_it() -> None:
    """An entry that cannot fit is returned, and leaves an empty table behind (section 4.4)."""
    decoder = Decoder(table_bytes=64)
    decode(decoder, NEW_NAME)
    assert decoder.decode(b"\x40\x01a\x20" + bytes(32)) == [(b"a", bytes(32))]
    with pytest.raises(HpackError, match="beyond the tables"):
        decode(decoder, NEWEST)


def test_a_name_may_be_of_the_entry_that_is_evicted() -> None:
    """A new entry may take its name from the one that it drives out (section 4.4)."""
    decoder = Decoder(table_bytes=40)
    decode(decoder, NEW_NAME)
    assert decode(decoder, "7e0163") == [(b"a", b"c")]
    assert decode(decoder, NEWEST) == [(b"a", b"c")]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "index 0"),
        ("8280", "index 0"),
        ("be", "beyond the tables"),
        ("82be", "beyond the tables"),
        ("ff00", "beyond the tables"),
        ("7e0161", "beyond the tables"),
        ("0f300161", "beyond the tables"),
        ("8220", "size changes within a block"),
        (NEW_NAME + "20", "size changes within a block"),
        ("3fe21f", "at most 4096 bytes, got 4097"),
        ("ff", "beyond the tables"),
        ("0f", "ends within an integer"),
        ("0f80808080", "ends within an integer"),
        ("0f8080808080", "more than 5 bytes"),
        ("0f808080808000", "more than 5 bytes"),
        ("0f8280808001", "at most 268435456, got 268435473"),
        ("007f8080808001", "at most 268435456, got 268435583"),
        ("00", "ends within a field"),
        ("0001", "ends within a string"),
        ("00016101", "ends within a string"),
        ("00016184ffffffff", "end-of-string symbol"),
        ("00016185ffffffff82", "end-of-string symbol"),
        ("0001618118", "padding"),
        ("00016182" + "1fff", "padding"),
        ("00016181" + "ff", "padding"),
    ],
)
def test_a_malformed_block_is_refused(block: str, reason: str) -> None:
    """Each way to break RFC 7541 is an error with a reason of its own."""
    with pytest.raises(HpackError, match=reason):
        decode(Decoder(), block)


def test_the_longest_integers_are_read() -> None:
    """Zeros may fill an integer up to 5 bytes after its prefix, and a size may be all that is allowed."""
    assert decode(Decoder(), "3fe19f808000" + "82") == [(b":method", b"GET")]
    assert decode(Decoder(), "0f8080808000" + "00") == [(b"accept-charset", b"")]


def test_references_to_a_large_value_end_in_a_bounded_list() -> None:
    """A block of 16,000 references to 4,000 bytes is refused at once, with the memory of its pointers."""
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + bytes(4_000))
    block = bytes.fromhex(NEWEST) * 16_000
    tracemalloc.start()
    began_at = time.process_time()
    with pytest.raises(ListTooLargeError, match="more than 65536 bytes"):
        decoder.decode(block)
    seconds, (_, peak_bytes) = time.process_time() - began_at, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 0.5  # some 2 ms
    assert peak_bytes < 500_000  # some 150 kB: 8 bytes a field


@pytest.mark.parametrize("first", ["", "0400"], ids=["indexed_only", "after_a_literal"])
def test_a_list_of_exactly_the_limit_is_returned(first: str) -> None:
    """The limit itself is allowed, and one more field is not."""
    fields = decode(Decoder(), first + "82" * 3)
    max_bytes = sum(len(name) + len(value) + 32 for name, value in fields)
    assert decode(Decoder(max_bytes=max_bytes), first + "82" * 3) == fields
    with pytest.raises(ListTooLargeError):
        decode(Decoder(max_bytes=max_bytes - 1), first + "82" * 3)


def test_a_list_that_is_too_large_is_read_no_further() -> None:
    """Fields beyond the limit are not decoded: what is malformed there is not what is reported."""
    with pytest.raises(ListTooLargeError):
        decode(Decoder(max_bytes=100), "0400" + "82" * 3 + "80")


def test_an_entry_of_exactly_the_size_of_the_table_stays() -> None:
    """An entry that fills the table to the byte is kept."""
    decoder = Decoder(table_bytes=34)
    decode(decoder, NEW_NAME)
    assert decode(decoder, NEWEST) == [(b"a", b"b")]


def test_a_field_of_the_static_table_takes_one_byte() -> None:
    """A pair of the static table is written as its index."""
    assert encode_field(b":status", b"200") == b"\x88"


def test_a_name_of_the_static_table_is_written_as_its_index() -> None:
    """A name with another value is an indexed name that enters no table, the first index that has it."""
    assert encode_field(b":status", b"201") == b"\x08\x03201"
    assert encode_field(b"content-type", b"application/grpc") == b"\x0f\x10\x10application/grpc"


def test_other_fields_are_written_in_full() -> None:
    """Neither name nor value is Huffman-coded, and lengths of 127 and more take several bytes."""
    assert encode_field(b"grpc-status", b"0") == b"\x00\x0bgrpc-status\x010"
    assert encode_field(b"a", b"x" * 300) == b"\x00\x01a\x7f\xad\x01" + b"x" * 300
