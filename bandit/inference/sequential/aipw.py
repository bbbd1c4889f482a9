"""AIPW inference: one arm's mean, and a challenger against the champion, valid at any look.

AIPW is augmented inverse propensity weighting. Everything holds under any allocation whose shares are stored,
and under drift, where the estimand is the mean over the decisions so far. Differences are in the metric's own
unit, challenger minus champion; the metric's direction determines which sign is good. The champion may change
during an experiment: comparisons are with the given one, over the whole record of both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.mixture import Mixture, boundaries
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.sequential.scores import Scores, score
from bandit.metric import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanEstimate:
    """The mean of one arm.

    Attributes:
        arm: Its number.
        mean: The AIPW mean, clipped to the metric's range.
        standard_error: Its asymptotic standard error, for description; the interval does not use it.
        interval: Holds the mean over all decisions so far at every look, with probability 1 - alpha.
        n: The arm's own resolved decisions that count.
        n_decisions: Resolved decisions of all arms that count.
        n_omitted: Resolved decisions of epochs that do not count, since the arm's share is below its floor.
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
        difference: Mean of the challenger minus that of the champion, in the metric's unit.
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
    """Return one arm's mean with time-uniform bounds, alpha / 2 on each side."""
    return estimate_means(table, [arm], design)[arm]


def estimate_means(
    table: EvidenceTable, arms: Iterable[int], design: Design
) -> dict[int, MeanEstimate | CannotSay]:
    """Return arm number to its mean, each over the epochs in which that arm counts."""
    cap = 1.0 if design.prediction_cap is None else design.prediction_cap
    scored = {arm: score(table, [arm], design, cap) for arm in arms}
    estimable = [scores for scores in scored.values() if isinstance(scores, Scores)]
    variances = [float(scores.variances[-1, 0]) for scores in estimable]
    mixtures, alpha = [mean_mixtures(design, scores.arms[0]) for scores in estimable], design.alpha / 2
    below, above = (boundaries([pair[side] for pair in mixtures], variances, alpha) for side in (0, 1))
    margins = zip(below, above, strict=True)
    found = {
        scores.arms[0]: _mean_estimate(table, scores, *margin)
        for scores, margin in zip(estimable, margins, strict=True)
    }
    return {arm: scores if isinstance(scores, CannotSay) else found[arm] for arm, scores in scored.items()}


def _mean_estimate(table: EvidenceTable, scores: Scores, below: float, above: float) -> MeanEstimate:
    """Return the estimate, given how far its sum may lie above and below the truth."""
    (arm,), scale = scores.arms, table.scale
    total, variance, n = float(scores.sums[-1, 0]), float(scores.variances[-1, 0]), float(scores.n[-1])
    ends = (_clip((total - below) / n, 0.0, 1.0), _clip((total + above) / n, 0.0, 1.0))
    return MeanEstimate(
        arm=arm,
        mean=scale.to_value(_clip(total / n, 0.0, 1.0)),
        standard_error=scale.width * variance**0.5 / n,
        interval=Interval(*map(scale.to_value, ends)),
        n=int(table.n[scores.is_used, table.column(arm)].sum()),
        n_decisions=int(n),
        n_omitted=n_omitted(table, scores),
    )


def mean_mixtures(design: Design, arm: int) -> tuple[Mixture, Mixture]:
    """Return the mixtures for the lower and the upper end of an arm's mean, at alpha / 2 each."""
    cap = 1.0 if design.prediction_cap is None else design.prediction_cap
    floor, alpha = design.floor(arm), design.alpha / 2
    planned = design.planned_variance / floor
    return design.mixture(cap / floor, planned, alpha), design.mixture(1 / floor, planned, alpha)


def compare_means(table: EvidenceTable, arm: int, champion: int, design: Design) -> Comparison | CannotSay:
    """Return the challenger's mean minus the champion's, with time-uniform bounds and e-processes."""
    return compare_each(table, [arm], champion, design)[arm]


def compare_each(
    table: EvidenceTable, arms: Iterable[int], champion: int, design: Design
) -> dict[int, Comparison | CannotSay]:
    """Return arm number to its comparison with the champion, each over the epochs in which both count."""
    scored = {arm: score(table, [arm, champion], design, design.cap(arm, champion)) for arm in arms}
    comparable = [scores for scores in scored.values() if isinstance(scores, Scores)]
    found = {
        scores.arms[0]: _comparison(table, scores, design, bounds)
        for scores, bounds in zip(comparable, _difference_bounds(comparable, design), strict=True)
    }
    return {arm: scores if isinstance(scores, CannotSay) else found[arm] for arm, scores in scored.items()}


def _comparison(table: EvidenceTable, scores: Scores, design: Design, bounds: Interval) -> Comparison:
    arm, champion = scores.arms
    more, less = (
        contrast_process(scores, design.contrast_mixture(*order, design.alpha), sign)
        for order, sign in (((arm, champion), 1.0), ((champion, arm), -1.0))
    )
    maximize = table.scale.direction is Direction.MAXIMIZE
    width, n = table.scale.width, float(scores.n[-1])
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
    """Return evidence that `sign` * (first arm - second) is above 0; epochs left out change nothing."""
    total: FloatArray = sign * (scores.sums[:, 0] - scores.sums[:, 1])
    log_values = mixture.log_e_value(total, scores.variances.sum(axis=1))
    return EProcess.of(np.where(scores.n > 0, log_values, 0.0))


def n_omitted(table: EvidenceTable, scores: Scores) -> int:
    """Return the number of resolved decisions of epochs that do not count."""
    return int(table.totals[~scores.is_used].sum())


def _difference_bounds(scored: Sequence[Scores], design: Design) -> list[Interval]:
    """Return bounds of each difference, in [-1, 1]; alpha / 2 on each side."""
    alpha = design.alpha / 2
    variances = [float(scores.variances[-1].sum()) for scores in scored]
    pairs = [scores.arms for scores in scored]
    below = [design.contrast_mixture(arm, champion, alpha) for arm, champion in pairs]
    above = [design.contrast_mixture(champion, arm, alpha) for arm, champion in pairs]
    return [
        _difference_interval(scores, *margins)
        for scores, *margins in zip(
            scored, boundaries(below, variances, alpha), boundaries(above, variances, alpha), strict=True
        )
    ]


def _difference_interval(scores: Scores, below: float, above: float) -> Interval:
    total, n = float(scores.sums[-1, 0] - scores.sums[-1, 1]), float(scores.n[-1])
    return Interval(_clip((total - below) / n, -1.0, 1.0), _clip((total + above) / n, -1.0, 1.0))


def _clip(value: float, lower: float, upper: float) -> float:
    return min(max(value, lower), upper)
