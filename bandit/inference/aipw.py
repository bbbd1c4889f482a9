"""AIPW inference: one arm's mean, and a challenger against the champion, valid at any look.

Everything holds under any allocation whose shares are stored, and under drift, where the estimand is the mean
over the decisions so far. Differences are in the metric's own unit, challenger less champion; which sign is
good is the metric's direction. The champion may change in mid-life: comparisons are with the one asked for,
over the whole record of both.
"""

from dataclasses import dataclass

import numpy as np

from bandit.inference.design import Design
from bandit.inference.mixture import Mixture
from bandit.inference.reasons import CannotSay
from bandit.inference.results import EProcess, Interval
from bandit.inference.scores import Scores, score
from bandit.inference.table import EvidenceTable, FloatArray
from bandit.metric import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanEstimate:
    """The mean of one arm.

    Attributes:
        arm: Its number.
        mean: The AIPW mean, moved into the interval's range if it lies outside.
        standard_error: Its asymptotic standard error, for description; the interval does not use it.
        interval: Holds the mean over all decisions so far at every look, with probability 1 - alpha.
        n: The arm's own resolved decisions that count.
        n_decisions: Resolved decisions of all arms that count.
        n_omitted: Resolved decisions of epochs that do not count, the arm's share being below its floor.
    """

    arm: int
    mean: float
    standard_error: float
    interval: Interval
    n: int
    n_decisions: int
    n_omitted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger against the champion.

    Attributes:
        arm: Number of the challenger.
        champion: Number of the champion.
        difference: Mean of the challenger less that of the champion, in the metric's unit.
        standard_error: Its asymptotic standard error, for description.
        interval: Holds the difference at every look, with probability 1 - alpha.
        better: Evidence against "the challenger is no better".
        worse: Evidence against "the challenger is no worse".
        n_decisions: Resolved decisions of all arms that count.
        n_omitted: Resolved decisions of epochs that do not count.
    """

    arm: int
    champion: int
    difference: float
    standard_error: float
    interval: Interval
    better: EProcess
    worse: EProcess
    n_decisions: int
    n_omitted: int


def estimate_mean(table: EvidenceTable, arm: int, design: Design) -> MeanEstimate | CannotSay:
    """One arm's mean with time-uniform bounds, alpha / 2 on each side."""
    cap = 1.0 if design.prediction_cap is None else design.prediction_cap
    scores = score(table, [arm], design, cap)
    if isinstance(scores, CannotSay):
        return scores
    alpha = design.alpha / 2
    below, above = mean_mixtures(design, arm)
    total, variance, n = float(scores.sums[-1, 0]), float(scores.variances[-1, 0]), float(scores.n[-1])
    lower = (total - float(below.boundary(variance, alpha))) / n
    upper = (total + float(above.boundary(variance, alpha))) / n
    scale = table.scale
    return MeanEstimate(
        arm=arm,
        mean=scale.to_value(_clip(total / n, 0.0, 1.0)),
        standard_error=scale.width * variance**0.5 / n,
        interval=Interval(scale.to_value(_clip(lower, 0.0, 1.0)), scale.to_value(_clip(upper, 0.0, 1.0))),
        n=int(table.n[scores.is_used, table.column(arm)].sum()),
        n_decisions=int(n),
        n_omitted=n_omitted(table, scores),
    )


def mean_mixtures(design: Design, arm: int) -> tuple[Mixture, Mixture]:
    """The mixtures behind the lower and the upper end of an arm's mean, at alpha / 2 each."""
    cap = 1.0 if design.prediction_cap is None else design.prediction_cap
    floor, alpha = design.floor(arm), design.alpha / 2
    planned = design.planned_variance / floor
    return design.mixture(cap / floor, planned, alpha), design.mixture(1 / floor, planned, alpha)


def compare_means(table: EvidenceTable, arm: int, champion: int, design: Design) -> Comparison | CannotSay:
    """The challenger's mean less the champion's, with time-uniform bounds and e-processes both ways."""
    scores = score(table, [arm, champion], design, design.cap(arm, champion))
    if isinstance(scores, CannotSay):
        return scores
    more, less = (
        contrast_process(scores, design.contrast_mixture(*order, design.alpha), sign)
        for order, sign in (((arm, champion), 1.0), ((champion, arm), -1.0))
    )
    maximize = table.scale.direction is Direction.MAXIMIZE
    width, n = table.scale.width, float(scores.n[-1])
    bounds = _difference_bounds(scores, design)
    return Comparison(
        arm=arm,
        champion=champion,
        difference=width * _clip(float(scores.sums[-1, 0] - scores.sums[-1, 1]) / n, -1.0, 1.0),
        standard_error=width * float(scores.variances[-1].sum()) ** 0.5 / n,
        interval=Interval(width * bounds.lower, width * bounds.upper),
        better=more if maximize else less,
        worse=less if maximize else more,
        n_decisions=int(n),
        n_omitted=n_omitted(table, scores),
    )


def contrast_process(scores: Scores, mixture: Mixture, sign: float) -> EProcess:
    """Evidence that `sign` times (first arm less second) is above 0; epochs left out change nothing."""
    total: FloatArray = sign * (scores.sums[:, 0] - scores.sums[:, 1])
    log_values = mixture.log_e_value(total, scores.variances.sum(axis=1))
    return EProcess.of(np.where(scores.n > 0, log_values, 0.0))


def n_omitted(table: EvidenceTable, scores: Scores) -> int:
    """Resolved decisions of epochs that do not count."""
    return int(table.totals[~scores.is_used].sum())


def _difference_bounds(scores: Scores, design: Design) -> Interval:
    """Of the difference, in [-1, 1]; alpha / 2 on each side."""
    arm, champion = scores.arms
    alpha, variance = design.alpha / 2, float(scores.variances[-1].sum())
    total, n = float(scores.sums[-1, 0] - scores.sums[-1, 1]), float(scores.n[-1])
    below = float(design.contrast_mixture(arm, champion, alpha).boundary(variance, alpha))
    above = float(design.contrast_mixture(champion, arm, alpha).boundary(variance, alpha))
    return Interval(_clip((total - below) / n, -1.0, 1.0), _clip((total + above) / n, -1.0, 1.0))


def _clip(value: float, lower: float, upper: float) -> float:
    return min(max(value, lower), upper)
