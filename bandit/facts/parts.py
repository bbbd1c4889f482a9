"""The parts of a first epoch: its decisions, split at random so that evidence can read it as five rows.

A test of evidence takes its centre from all earlier rows. If a burst falls into an experiment's first epoch,
there are none. So the policy decisions of that epoch are counted in five parts, by four random bits each: of
the decision's id or, where units count, of the unit's mark. The bits have nothing to do with arm or outcome,
so whatever comes of one part, the draws of the next are still independent, with the epoch's shares.

The parts hold 1/16, 1/16, 1/8, 1/4 and 1/2 of the decisions, in this order: each but the first has as many as
all before it.
"""

from typing import Final

from bandit.decision_id import Basis

N_PARTS: Final = 5
"""Parts of a first epoch."""

SPLIT_EPOCH: Final = 1
"""The number of the epoch whose decisions are counted by part."""

SPLIT_BASIS: Final = Basis.POLICY
"""The basis of those decisions."""

N_NIBBLES: Final = 16
"""Values of four bits."""

_NIBBLE_BYTE: Final = 11
"""Its low half has the top four bits of the lot of a decision id; see `bandit.decision_id`."""


def is_split(epoch: int, basis: int) -> bool:
    """Return whether decisions of an epoch of this number are counted by part: policy decisions of the first.

    >>> is_split(1, Basis.POLICY), is_split(1, Basis.RESTRICTED), is_split(2, Basis.POLICY)
    (True, False, False)
    """
    return epoch == SPLIT_EPOCH and basis == SPLIT_BASIS


def part_of_nibble(nibble: int) -> int:
    """Return the part that four random bits, in [0, 16), stand for, in [0, 5).

    >>> [part_of_nibble(nibble) for nibble in range(16)]
    [0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]
    """
    return nibble.bit_length()


def nibble_of(decision_id: bytes) -> int:
    """Return the four bits of a unique id of 16 bytes that say which part its decision is in."""
    return decision_id[_NIBBLE_BYTE] & (N_NIBBLES - 1)


def part_of(decision_id: bytes) -> int:
    """Return the part that a decision is in, in [0, 5), from its unique id of 16 bytes."""
    return part_of_nibble(nibble_of(decision_id))
