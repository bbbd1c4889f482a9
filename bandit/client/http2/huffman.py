"""The Huffman code of header compression (RFC 7541 section 5.2 and appendix B), decoded byte by byte.

The decoder is a state machine. A state is an inner node of the code's tree: what was read of a symbol that
has not ended. For each state and byte, tables have the next state and the symbols that end with the byte.
So a string costs one step a byte, whatever its symbols are.
"""

from typing import Final

from bandit.client.http2.hpack_errors import HpackError

_N_BITS_TO_SYMBOLS: Final = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: bytes.fromhex("5cc3d0"),
    20: bytes.fromhex("808283a2b8c2e0e2"),
    21: bytes.fromhex("99a1a7acb0b1b3d1d8d9e3e5e6"),
    22: bytes.fromhex("8184858688929a9ca0a3a4a9aaadb2b5b9babbbdbec4c6e4e8e9"),
    23: bytes.fromhex("0187898a8b8c8d8f93959697989b9d9ea5a6a8aeafb4b6b7bcbfc5e7ef"),
    24: bytes.fromhex("098e9091949fabced7e1eced"),
    25: bytes.fromhex("c7cfeaeb"),
    26: bytes.fromhex("c0c1c8c9cacdd2d5dadbeef0f2f3ff"),
    27: bytes.fromhex("cbccd3d4d6dddedff1f4f5f6f7f8fafbfcfdfe"),
    28: bytes.fromhex("020304050607080b0c0e0f1011121314151718191a1b1c1d1e1f7fdcf9"),
    30: bytes.fromhex("0a0d16"),
}
_N_BITS_OF_END: Final = 30
_LONGEST_PADDING: Final = 7

_MALFORMED: Final = "a string must end in a padding of up to 7 ones, and hold no end-of-string symbol"

_Step = tuple[int, bytes]
"""The state after some bits, and the symbols that ended with them."""

_FAILED: Final = 256
"""The state after the end-of-string symbol, which no string may hold. It has no row in the tables."""


def _grow_tree() -> list[list[_Step]]:
    """Return the steps of each state for a 0 and a 1. State 0 is the root.

    Codes are canonical: those of a length follow each other, and come before all longer ones. So the tree
    grows level by level. The first places of a level are symbols, the others are inner nodes.
    """
    tree: list[list[_Step]] = [[]]
    level = [0]
    for n_bits in range(1, _N_BITS_OF_END + 1):
        leaves: list[_Step] = [(0, bytes((symbol,))) for symbol in _N_BITS_TO_SYMBOLS.get(n_bits, b"")]
        if n_bits == _N_BITS_OF_END:
            leaves.append((_FAILED, b""))
        inner = range(len(tree), len(tree) + 2 * len(level) - len(leaves))
        tree.extend([] for _ in inner)
        places = iter([*leaves, *((node, b"") for node in inner)])
        for node in level:
            tree[node] += [next(places), next(places)]
        level = list(inner)
    return tree


def _double(rows: list[list[_Step]]) -> list[list[_Step]]:
    """Return the steps of each state for twice as many bits."""
    rows_and_failed = [*rows, [(_FAILED, b"")] * len(rows[0])]
    return [
        [
            (after, symbols + more_symbols)
            for between, symbols in row
            for after, more_symbols in rows_and_failed[between]
        ]
        for row in rows
    ]


def _padded_states(tree: list[list[_Step]]) -> list[int]:
    """Return the states in which a string may end: nothing begun, or up to 7 bits that are all ones."""
    states = [0]
    for _ in range(_LONGEST_PADDING):
        states.append(tree[states[-1]][1][0])
    return states


def _make_tables() -> tuple[tuple[int, ...], tuple[bytes, ...], frozenset[int]]:
    """Return the next states, the symbols that end, and the states in which a string may end.

    A state is multiplied by 256, so that a state and a byte make a place in the tables.
    """
    tree = _grow_tree()
    steps = [step for row in _double(_double(_double(tree))) for step in row]
    pool: dict[bytes, bytes] = {}
    return (
        tuple(state << 8 for state, _ in steps),
        tuple(pool.setdefault(symbols, symbols) for _, symbols in steps),
        frozenset(state << 8 for state in _padded_states(tree)),
    )


_NEXT_STATES, _SYMBOLS, _PADDED_STATES = _make_tables()


def decode_huffman(coded: bytes) -> bytes:
    """Return what a string stands for, at most 8/5 of its length.

    Raises:
        HpackError: The string holds the end-of-string symbol, or its padding is over 7 bits or not all ones.
    """
    next_states, all_symbols = _NEXT_STATES, _SYMBOLS
    parts: list[bytes] = []
    append = parts.append
    place = 0
    try:
        for byte in coded:
            place |= byte
            append(all_symbols[place])
            place = next_states[place]
    except IndexError:
        raise HpackError(_MALFORMED) from None
    if place not in _PADDED_STATES:
        raise HpackError(_MALFORMED)
    return b"".join(parts)
