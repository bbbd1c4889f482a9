"""A challenger against the champion: one test, from which everything that is said about the two follows.

A yes/no metric is tested by centred odds, any other by bounded scores. The difference, the relative change,
the p-values and the findings invert the same process at the same level, so "p is at most .05", "the interval
leaves out 0" and "better" are one statement. With m challengers and both directions, that level is ``ln E =
ln(2 m / alpha)``: Bonferroni, since Holm's step-down has no intervals that agree with it.
"""

from dataclasses import dataclass
from sys import float_info
from typing import Final

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair, pair_of
from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds, difference_interval, ratio_interval
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.range_free import approximate_interval, is_heavy
from bandit.inference.sequential.results import EProcess, Interval
from bandit.metric import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger against the champion, in the metric's unit.

    Attributes:
        arm: Number of the challenger.
        champion: Number of the champion.
        mean: The challenger's mean by overlap weights.
        champion_mean: The champion's mean over the same time, weighed alike.
        standard_error: The asymptotic standard error of their difference, for description.
        interval: Holds the difference at every look. It leaves out 0 just where a direction is established,
            and holds the estimate unless rows that only serve as centre contradict that.
        lift: Bounds of the challenger's mean over the champion's, less 1, at every look; or why there are
            none.
        approximate: An approximate interval of the difference where the range dwarfs the outcomes' spread;
            nothing is concluded from it. None where it is not needed or can't be given.
        better: Evidence against "the challenger is no better", over the table's rows in `rows`.
        worse: Evidence against "the challenger is no worse".
        rows: The rows of the table at which the processes are looked at, ascending.
        n_decisions: Resolved decisions of both arms.
        n_tested: Those of them that count in the test; the others are its centre.
    """

    arm: int
    champion: int
    mean: float
    champion_mean: float
    standard_error: float
    interval: Interval
    lift: Interval | CannotSay
    approximate: Interval | None
    better: EProcess
    worse: EProcess
    rows: tuple[int, ...]
    n_decisions: int
    n_tested: int

    @property
    def difference(self) -> float:
        """The challenger's mean less the champion's."""
        return self.mean - self.champion_mean

    @property
    def relative(self) -> float | None:
        """The challenger's mean over the champion's, less 1; None where no bounds of it can be given."""
        return None if isinstance(self.lift, CannotSay) else self.mean / self.champion_mean - 1


def compare(table: EvidenceTable, arm: int, champion: int, design: Design) -> Comparison | CannotSay:
    """Return the comparison of two arms, or why there is none.

    Args:
        table: The evidence.
        arm: Number of the challenger.
        champion: Number of the champion.
        design: Error rate, floors, and how many challengers share it.
    """
    pair = pair_of(table, arm, champion)
    if isinstance(pair, CannotSay):
        return pair
    measured = _odds if table.scale.is_binary else _scores
    more, less, interval, lift = measured(pair, table.scale, design)
    own, other = (table.scale.to_value(pair.means[side]) for side in (CHALLENGER, CHAMPION))
    maximize = table.scale.direction is Direction.MAXIMIZE
    width = table.scale.width
    found = more.log_value >= design.log_level, less.log_value >= design.log_level
    return Comparison(
        arm=arm,
        champion=champion,
        mean=own,
        champion_mean=other,
        standard_error=width * pair.standard_error,
        interval=_agreeing(Interval(width * interval.lower, width * interval.upper), own - other, found),
        lift=lift if isinstance(lift, CannotSay) else _agreeing(lift, own / other - 1, found),
        approximate=_approximate(pair, table.scale, design),
        better=more if maximize else less,
        worse=less if maximize else more,
        rows=tuple(pair.rows[pair.is_tested].tolist()),
        n_decisions=pair.n_decisions,
        n_tested=int(pair.n[:, pair.is_tested].sum()),
    )


_Measured = tuple[EProcess, EProcess, Interval, Interval | CannotSay]


def _odds(pair: Pair, scale: ValueScale, design: Design) -> _Measured:
    """Return evidence for more and for less, and both intervals, of a yes/no metric."""
    odds, level = CentredOdds(pair.tested()), design.log_level
    gap, spread = pair.means[CHALLENGER] - pair.means[CHAMPION], _spread(pair)
    lift = _no_ratio(pair, scale) or ratio_interval(odds, pair.means, spread / pair.means[CHAMPION], level)
    return odds.process(1), odds.process(-1), difference_interval(odds, gap, spread, level), lift


def _scores(pair: Pair, scale: ValueScale, design: Design) -> _Measured:
    """Return the same of any other metric."""
    weight, level = design.largest_weight(pair.arm, pair.champion), design.log_level
    scores = BoundedScores(pair.tested(), weight, BoundedTest(weight, design.alpha / 2))
    lift: Interval | CannotSay | None = _no_ratio(pair, scale)
    if lift is None:
        start = scale.minimum / scale.width
        own, other = pair.means[CHALLENGER] + start, pair.means[CHAMPION] + start
        lift = scores.ratio_interval(own / other, _spread(pair) / other, start, level)
    return scores.process(1), scores.process(-1), scores.difference_interval(level), lift


def _spread(pair: Pair) -> float:
    """Return the scale of a difference that chance makes, never 0."""
    return max(pair.standard_error, 1 / pair.n_decisions)


def _no_ratio(pair: Pair, scale: ValueScale) -> CannotSay | None:
    """Return why a relative change has no meaning, if so."""
    if scale.minimum < 0:
        return CannotSay(Reason.NO_RATIO_SCALE)
    own, champion = (scale.to_value(pair.means[side]) for side in (CHALLENGER, CHAMPION))
    if champion > 0:
        return None
    return CannotSay(Reason.CHAMPION_AT_ZERO if own > 0 else Reason.BOTH_AT_ZERO)


def _approximate(pair: Pair, scale: ValueScale, design: Design) -> Interval | None:
    if scale.is_binary or not is_heavy(pair):
        return None
    found = approximate_interval(pair, design.log_level)
    if found is None:
        return None
    gap = pair.means[CHALLENGER] - pair.means[CHAMPION]
    return Interval(scale.width * min(found.lower, gap), scale.width * max(found.upper, gap))


def _agreeing(interval: Interval, estimate: float, found: tuple[bool, bool]) -> Interval:
    """Return the interval with the estimate in it, and without 0 just where a direction is established.

    The estimate has a few more rows than the test. Where those alone make it contradict what is established,
    it stays outside. An end next to 0 may be on the wrong side, as the search is exact to a part of the
    spread only.

    Args:
        interval: The values that are not refuted.
        estimate: The estimate.
        found: Whether it is established that the challenger has more, and that it has less.
    """
    more, less = found
    lower, upper = min(interval.lower, estimate), max(interval.upper, estimate)
    if more and lower <= 0:
        lower = max(interval.lower, _NEXT_TO_ZERO)
    if less and upper >= 0:
        upper = min(interval.upper, -_NEXT_TO_ZERO)
    return Interval(lower if more else min(lower, 0.0), upper if less else max(upper, 0.0))


_NEXT_TO_ZERO: Final = float_info.min
