"""Pairs: the outcomes of one request under an arm in shadow and under the champion, as sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class PairSums(NamedTuple):
    """Sums over pairs of one metric, in quanta of the log.

    A quantum of the log is range / 2^20 of a real-valued metric, and 1 of a binary one or a count.

    Attributes:
        n: How many pairs there are.
        shadow: The sum of the shadow's values.
        shadow_squares: The sum of their squares.
        champion: The sum of the champion's values.
        champion_squares: The sum of their squares.
        products: The sum of the products of both.
    """

    n: int = 0
    shadow: int = 0
    shadow_squares: int = 0
    champion: int = 0
    champion_squares: int = 0
    products: int = 0

    def plus(self, other: "PairSums") -> "PairSums":
        """Return the sums over the pairs of both.

        >>> PairSums.of(1, 0).plus(PairSums.of(1, 1))
        PairSums(n=2, shadow=2, shadow_squares=2, champion=1, champion_squares=1, products=1)
        """
        return PairSums(*map(int.__add__, self, other))

    @classmethod
    def of(cls, shadow: int, champion: int) -> "PairSums":
        """Return the sums of one pair."""
        return cls(1, shadow, shadow * shadow, champion, champion * champion, shadow * champion)


class ShadowKey(NamedTuple):
    """What an arm saw in an epoch."""

    epoch: int
    arm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowFacts:
    """What came of the shadow decisions of an experiment.

    A pair counts once the metric's window has passed since its decision, if the metric has one. It needs an
    outcome of the shadow, in time: a shadow's silence is no value. The champion's silence is the metric's
    default value; without one it is no pair. Where units are counted, a unit counts once for each arm, in the
    first of its pairs, and the champion's silence is never one.

    Attributes:
        pairs: Metric number to epoch and arm to the sums over pairs; only of metrics that are compared.
        n_mirrored: Epoch and arm to the number of shadow decisions of which any outcome was posted.
    """

    pairs: Mapping[int, Mapping[ShadowKey, PairSums]]
    n_mirrored: Mapping[ShadowKey, int]
