"""Hands memory that was freed back to the system, which the C library keeps in case it is wanted again."""

import ctypes
from contextlib import suppress


def hand_back() -> None:
    """Takes a tenth of a second after a flood. Does nothing where the C library has no call for it."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
