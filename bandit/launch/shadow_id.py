"""The ids of what arms see in shadow: each tells the decision beside which it was made, without a lookup.

The two differ in their last 16 bits only, by the arm's number, and no other decision has the rest of the
bits; see `bandit.decision_id.IdBits`. So a decision and its shadows also stand together in the reward log,
which is in the order of ids.
"""

from math import ceil
from typing import Final

from bandit.decision_id import SAMPLE_BITS

N_SAMPLES: Final = 1 << SAMPLE_BITS
"""How many values the sample bits of an id have."""


def sample_of(decision_id: bytes) -> int:
    """Return the random bits by which it is decided who sees a decision in shadow, in [0, 2^16).

    >>> from bandit.decision_id import IdBits, new_id
    >>> sample_of(new_id(7, IdBits(run=9, flush=8, lot=7, sample=6).pack()))
    6
    """
    return decision_id[-2] << 8 | decision_id[-1]


def threshold_of(sample: float) -> int:
    """Return below which sample bits a decision is seen in shadow, of a declared part in (0, 1].

    >>> threshold_of(0.3), threshold_of(1.0)
    (19661, 65536)
    """
    return ceil(sample * N_SAMPLES)


def seen_part(sample: float) -> float:
    """Return the exact probability with which an arm sees a decision of the champion in shadow."""
    return threshold_of(sample) / N_SAMPLES


def shadow_id(decision_id: bytes, arm: int) -> bytes:
    """Return the unique id of what an arm sees of a decision in shadow: it tells the decision's id.

    Given the shadow's id and the same arm, it returns that of the decision.

    Args:
        decision_id: The unique id of the decision, of which the arm sees the request.
        arm: The experiment's number for the arm, in [0, `N_SAMPLES` - 1).

    >>> from bandit.decision_id import new_id
    >>> shadow_id(shadow_id(new_id(7, 6), 2), 2) == new_id(7, 6)
    True
    """
    low = sample_of(decision_id) ^ arm + 1
    return decision_id[:-2] + low.to_bytes(2)
