"""A kernel filter that drops most connection attempts from some addresses at a listening socket.

The filter is a program of the classic Berkeley Packet Filter on the socket, which needs no privilege (McCanne
and Jacobson, "The BSD Packet Filter", 1993; Documentation/networking/filter.rst of Linux). It drops the first
packet of a connection and no other. So open connections lose nothing, and neither do those that inherit the
filter from the socket that accepted them.
"""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

IS_SUPPORTED: Final = sys.platform == "linux"
MOST_ADDRESSES: Final = 32
"""Limited because a jump spans at most 255 instructions."""

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27

_LOAD_WORD: Final = 0x20
_LOAD_BYTE: Final = 0x30
_AND: Final = 0x54
_SHIFT_RIGHT: Final = 0x74
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_NOT_LESS: Final = 0x35
_RETURN: Final = 0x06

_IP_HEADER: Final = 0xFFF00000
"""Start of offsets into the IP header (SKF_NET_OFF); smaller offsets count from the TCP header."""

_RANDOM: Final = 0xFFFFF000 + 56
"""Offset of a random word (SKF_AD_OFF + SKF_AD_RANDOM)."""

_TCP_FLAGS: Final = 13
_SYN: Final = 0x02
_SYN_OR_ACK: Final = 0x12
_V4_SOURCE: Final = _IP_HEADER + 12
_V6_SOURCE: Final = _IP_HEADER + 8
_V6: Final = 6
_WORD: Final = 0xFFFFFFFF
_DROP: Final = (_RETURN, 0, 0, 0)
_TAKE: Final = (_RETURN, 0, 0, _WORD)

_Instruction = tuple[int, int, int, int]
"""Operation, jumps if true and if false, operand."""


def attach_filter(shares: Mapping[str, float], listener: socket.socket) -> None:
    """Drop all but a share of each address's connection attempts at a listening socket.

    Args:
        shares: IPv4 addresses and IPv6 networks (/64) to the share of their connection attempts, in [0, 1),
            that is let through; at most `MOST_ADDRESSES`. All attempts from other addresses are let through.
        listener: The listening socket.

    Raises:
        OSError: The system refused the filter.
    """
    if not shares:
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        return
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(shares))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _program(shares: Mapping[str, float]) -> Iterator[_Instruction]:
    """Accept packets other than SYN; compare the source of a SYN with each address of its IP version."""
    v4 = list(_of_v4(shares))
    yield from (
        (_LOAD_BYTE, 0, 0, _TCP_FLAGS),
        (_AND, 0, 0, _SYN_OR_ACK),
        (_JUMP_IF_EQUAL, 1, 0, _SYN),
        _TAKE,
        (_LOAD_BYTE, 0, 0, _IP_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_IF_EQUAL, len(v4), 0, _V6),
    )
    yield from v4
    yield from _of_v6(shares)


def _of_v4(shares: Mapping[str, float]) -> Iterator[_Instruction]:
    yield (_LOAD_WORD, 0, 0, _V4_SOURCE)
    for name, share in shares.items():
        if "/" not in name:
            yield (_JUMP_IF_EQUAL, 0, 4, int(IPv4Address(name)))
            yield from _draw(share)
    yield _TAKE


def _of_v6(shares: Mapping[str, float]) -> Iterator[_Instruction]:
    for name, share in shares.items():
        if "/" in name:
            prefix = int(IPv6Address(name.partition("/")[0])) >> 64
            yield (_LOAD_WORD, 0, 0, _V6_SOURCE)
            yield (_JUMP_IF_EQUAL, 0, 6, prefix >> 32)
            yield (_LOAD_WORD, 0, 0, _V6_SOURCE + 4)
            yield (_JUMP_IF_EQUAL, 0, 4, prefix & _WORD)
            yield from _draw(share)
    yield _TAKE


def _draw(share: float) -> Iterator[_Instruction]:
    """Accept a share of the packets that get here, and drop the rest: four instructions."""
    yield (_LOAD_WORD, 0, 0, _RANDOM)
    yield (_JUMP_IF_NOT_LESS, 0, 1, int(share * (_WORD + 1)))
    yield _DROP
    yield _TAKE
