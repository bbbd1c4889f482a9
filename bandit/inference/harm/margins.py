"""Margins: evidence that a challenger is worse by more than it may be, and that it is not.

A margin draws an *edge* between what is tolerated and what is harm: a ratio or a difference of the
challenger's mean to the champion's. A test against "at most the edge" (where less is better) finds harm; the
same test in the other direction, against "at least the edge", finds that there is none beyond it
(non-inferiority). Three tests serve, and every look at any of them counts:

- **conditional odds** (`bandit.inference.sequential.odds`), of yes/no events that do harm, against a ratio
  R. An event's factor has expectation 1 if the ratio is R, and less if it is smaller, whatever the shares and
  the base rate do: a supermartingale for every sequence of ratios up to R, in open epochs as well.
- **centred odds** (`bandit.inference.sequential.centred_odds`), of any other yes/no metric and for
  differences, over closed epochs.
- **bounded scores** (`bandit.inference.sequential.bounded_scores`), of amounts and counts, over closed
  epochs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds, mixed
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import ratio_rows
from bandit.inference.sequential.results import RowwiseProcess
from bandit.inference.sequential.search import Sign
from bandit.metric import AbsoluteMargin, Direction, Metric, RelativeMargin


@dataclass(frozen=True, slots=True)
class Ratio:
    """The edge at which the challenger's mean is `value` times the champion's; positive."""

    value: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The edge at which the challenger's mean is the champion's plus `value`, in the metric's unit."""

    value: float


Edge = Ratio | Difference


def edge_of(metric: Metric, times: float = 1.0) -> Edge:
    """Return the edge of a metric's margin, multiplied; a ratio of 1 if it has none.

    >>> edge_of(Metric(name="error", direction=Direction.MINIMIZE, worse_by=RelativeMargin(0.25)))
    Ratio(value=1.25)
    >>> edge_of(Metric(name="answered", worse_by=AbsoluteMargin(0.5)))
    Difference(value=-0.5)
    """
    sign = 1 if metric.direction is Direction.MINIMIZE else -1
    match metric.worse_by:
        case RelativeMargin(part):
            return Ratio(1 + sign * part * times)
        case AbsoluteMargin(difference):
            return Difference(sign * difference * times)
        case None:
            return Ratio(1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginEvidence:
    """Evidence about a metric's margin over closed epochs.

    Attributes:
        beyond: That the challenger is worse by more than the margin.
        within: That it is not.
    """

    beyond: RowwiseProcess | CannotSay
    within: RowwiseProcess | CannotSay


def margin_evidence(
    metric: Metric, table: EvidenceTable | CannotSay, arm: int, champion: int, design: Design
) -> MarginEvidence:
    """Return the evidence about the margin of a metric that has one.

    Args:
        metric: The metric.
        table: Its table of closed epochs, or why there is none.
        arm: Number of the challenger.
        champion: Number of the champion.
        design: Floors, by which bounded scores are scaled.
    """
    if isinstance(table, CannotSay):
        return MarginEvidence(beyond=table, within=table)
    edge = edge_of(metric)
    beyond, within = (
        closed_process(table, arm, champion, edge, design, is_worse=is_worse) for is_worse in (True, False)
    )
    return MarginEvidence(beyond=beyond, within=within)


def closed_process(
    table: EvidenceTable, arm: int, champion: int, edge: Edge, design: Design, *, is_worse: bool
) -> RowwiseProcess | CannotSay:
    """Return evidence that a challenger is beyond an edge, or with `is_worse` false, on its good side.

    Args:
        table: The table of closed epochs.
        arm: Number of the challenger.
        champion: Number of the champion.
        edge: The edge.
        design: Floors, by which bounded scores are scaled.
        is_worse: Whether the evidence is against the good side of the edge.
    """
    scale = table.scale
    if isinstance(edge, Ratio) and edge.value != 1 and scale.minimum < 0:
        return CannotSay(Reason.NO_RATIO_SCALE)
    pair = pair_of(table, arm, champion)
    if isinstance(pair, CannotSay):
        return pair
    tested, sign = pair.tested(), _sign(table, is_worse=is_worse)
    if scale.is_binary:
        return _by_odds(tested, edge, sign)
    weight = design.largest_weight(arm, champion)
    scores = BoundedScores(tested, weight, BoundedTest(weight, design.alpha / _SIDES))
    return _by_scores(scores, scale, edge, sign)


def _by_odds(pair: Pair, edge: Edge, sign: Sign) -> RowwiseProcess:
    odds = CentredOdds(pair)
    match edge:
        case Ratio(ratio):
            terms = odds.log_factors_of_ratio(ratio, sign)
        case Difference(delta):
            terms = odds.log_factors(delta, sign)
    return RowwiseProcess(rows=tuple(pair.rows.tolist()), terms=terms, log_e_value=mixed)


def _by_scores(scores: BoundedScores, scale: ValueScale, edge: Edge, sign: Sign) -> RowwiseProcess:
    match edge:
        case Ratio(1.0):  # also where values may be negative
            total, variance = scores.about_difference(0.0)
        case Ratio(ratio):
            total, variance = scores.about_ratio(ratio, scale.minimum / scale.width)
        case Difference(delta):
            total, variance = scores.about_difference(delta / scale.width)
    terms = np.diff(np.stack([sign * total, variance], axis=1), axis=0, prepend=0.0)
    test = scores.test
    return RowwiseProcess(
        rows=tuple(scores.pair.rows.tolist()),
        terms=terms,
        log_e_value=lambda sums: test.log_e_value(sums[:, 0], sums[:, 1]),
    )


def early_process(
    table: EvidenceTable, arm: int, champion: int, edge: Ratio, *, is_worse: bool
) -> RowwiseProcess | CannotSay:
    """Return the same from events alone, of a table that may have open epochs."""
    return ratio_rows(table, arm, champion, edge.value, is_more=_sign(table, is_worse=is_worse) > 0)


def _sign(table: EvidenceTable, *, is_worse: bool) -> Sign:
    """Return the direction of a change for the worse, or for the better."""
    is_more = is_worse == (table.scale.direction is Direction.MINIMIZE)
    return 1 if is_more else -1


_SIDES: Final = 2
