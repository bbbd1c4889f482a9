"""Epochs as their decisions know them: number, nonce and shares."""

from collections.abc import Mapping
from typing import NamedTuple


class EpochKey(NamedTuple):
    """Which epoch of the store.

    Attributes:
        experiment: The store's number of the experiment.
        segment: Number of the segment.
        number: Number of the epoch.
    """

    experiment: int
    segment: int
    number: int


class EpochTerms(NamedTuple):
    """What an epoch lends to its decisions.

    Attributes:
        nonce: Its random mark, in [0, 2^32).
        shares: Arm number to share.
        n_bytes: The memory that this takes, about.
    """

    nonce: int
    shares: Mapping[int, float]
    n_bytes: int
