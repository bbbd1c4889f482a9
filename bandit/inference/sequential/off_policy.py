"""Off-policy value of a static split, from the bandit's own record, and the bandit's gain over it.

The doubly robust value of a split q is ``sum_a q_a S_a / N`` with variance ``sum_a q_a^2 V_a / N^2`` (Dudik,
Langford & Li 2011): it needs the AIPW sums only. The split's score is bounded like an arm's, so its bounds
hold at any look.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.mixture import Mixture
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.scores import Scores, score, squared_distances


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitValue:
    """A static split compared with the bandit, per resolved decision and in the metric's unit.

    Attributes:
        split: Arm number to its weight; sums to 1.
        value: Doubly robust mean outcome under the split.
        standard_error: Its asymptotic standard error.
        interval: Holds the split's mean at every look, with probability 1 - alpha.
        ips_value: The same by inverse propensity weights alone: ``sum q_a s_a / pi_a / N``.
        ips_standard_error: Its standard error.
        earned: Mean outcome of the bandit over the same decisions.
        gain: `earned` minus `value`, or why there is none to estimate.
        effective_sample_size: Number of decisions of the split itself with the same information, by Kish's
            (1965) formula.
        n_decisions: Resolved decisions that count.
        n_below: Resolved decisions left out, since an arm of the split was below its floor.
        n_centre: Resolved decisions left out, since they only say what is to be expected of the next.
    """

    split: Mapping[int, float]
    value: float
    standard_error: float
    interval: Interval
    ips_value: float
    ips_standard_error: float
    earned: float
    gain: "Gain | CannotSay"
    effective_sample_size: float
    n_decisions: int
    n_below: int
    n_centre: int

    @property
    def n_omitted(self) -> int:
        """Resolved decisions that are left out."""
        return self.n_below + self.n_centre


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What the bandit earned beyond a static split, per resolved decision and in the metric's unit.

    Attributes:
        value: The estimate.
        standard_error: Its asymptotic standard error.
        interval: Holds the expected gain at every look, with probability 1 - alpha.
    """

    value: float
    standard_error: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A sum over n decisions with its variance, in positions of the range."""

    total: float
    variance: float
    n: float

    @property
    def mean(self) -> float:
        return self.total / self.n

    @property
    def standard_error(self) -> float:
        return sqrt(max(self.variance, 0.0)) / self.n

    def interval(self, below: Mixture, above: Mixture, alpha: float) -> tuple[float, float]:
        margins = [float(mixture.boundary(self.variance, alpha)) / self.n for mixture in (below, above)]
        return self.mean - margins[0], self.mean + margins[1]


def value_of_split(
    table: EvidenceTable, split: Mapping[int, float], design: Design
) -> SplitValue | CannotSay:
    """Return the value of a static split over the epochs in which each of its arms had at least its floor.

    Args:
        table: The evidence.
        split: Arm number to weight, at least 0, with a positive sum.
        design: Error rate and floors.

    Raises:
        ValueError: a weight is negative or not finite, or they sum to 0.
    """
    weights = _normalised(split)
    scores = score(table, tuple(weights), design)
    if isinstance(scores, CannotSay):
        return scores
    scale, n = table.scale, float(scores.n[-1])
    value, gain = _estimates(table, scores, weights)
    value_ends, gain_ends = _bounds(value, gain, weights, design)
    ips_value, ips_standard_error, size = _inverse_propensity(table, scores, weights)
    return SplitValue(
        split=weights,
        value=scale.to_value(min(max(value.mean, 0.0), 1.0)),
        standard_error=scale.width * value.standard_error,
        interval=Interval(*(scale.to_value(min(max(end, 0.0), 1.0)) for end in value_ends)),
        ips_value=ips_value,
        ips_standard_error=ips_standard_error,
        earned=scale.to_value(float(table.sums[scores.is_used].sum()) / n),
        gain=CannotSay(Reason.SPLIT_IN_FORCE)
        if _is_in_force(table, scores, weights)
        else Gain(
            value=scale.width * gain.mean,
            standard_error=scale.width * gain.standard_error,
            interval=Interval(*(scale.width * min(max(end, -1.0), 1.0) for end in gain_ends)),
        ),
        effective_sample_size=size,
        n_decisions=int(n),
        n_below=scores.n_below,
        n_centre=scores.n_centre,
    )


def _is_in_force(table: EvidenceTable, scores: Scores, weights: Mapping[int, float]) -> bool:
    """True if the shares of every row that counts are those of the split."""
    q = np.array([weights.get(arm, 0.0) for arm in table.arms])
    return bool(np.allclose(table.shares[scores.is_used], q, rtol=0.0, atol=_ALIKE))


def _normalised(split: Mapping[int, float]) -> dict[int, float]:
    """Return weights that sum to 1, of the arms with a positive weight."""
    total = sum(split.values())
    if not (all(isfinite(weight) and weight >= 0 for weight in split.values()) and total > 0):
        raise ValueError(f"weights must be finite and not negative, with a positive sum, got {dict(split)}")
    return {arm: weight / total for arm, weight in split.items() if weight > 0}


def _estimates(
    table: EvidenceTable, scores: Scores, weights: Mapping[int, float]
) -> tuple[_Estimate, _Estimate]:
    """Return the split's value and the bandit's gain over it, in positions."""
    q, n = np.array(list(weights.values())), float(scores.n[-1])
    value = _Estimate(float(q @ scores.sums[-1]), float(q**2 @ scores.variances[-1]), n)
    earned = float(table.sums[scores.is_used].sum())
    return value, _Estimate(earned - value.total, _gain_variance(table, scores, weights), n)


def _gain_variance(table: EvidenceTable, scores: Scores, weights: Mapping[int, float]) -> float:
    """Return the squared distances of ``X - sum_b q_b xi_b`` from its prediction, summed.

    The prediction is ``sum_b (pi_b - q_b) m_b``.

    For a decision of arm a it is ``(1 - q_a / pi_a)(X - m_a) + m_a - sum_b pi_b m_b``.
    """
    columns = range(len(table.arms))
    predicted = scores.predicted
    slopes = 1 - _ratios(table, scores, weights)
    shifts = predicted - (table.shares * predicted).sum(axis=1, keepdims=True)
    squares = slopes**2 * squared_distances(table, columns, predicted)
    crossed = 2 * slopes * shifts * (table.sums - table.n * predicted)
    return float(np.maximum(squares + crossed + table.n * shifts**2, 0.0)[scores.is_used].sum())


def _bounds(
    value: _Estimate, gain: _Estimate, weights: Mapping[int, float], design: Design
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of both intervals, in positions.

    The gain's scores lie within 1 + max(1, q / floor) of their predictions.
    """
    alpha = design.alpha / 2
    steepest = max(weight / design.floor(arm) for arm, weight in weights.items())
    planned = design.planned_variance * sum(weight**2 / design.floor(arm) for arm, weight in weights.items())
    below, above = (design.mixture(scale, planned, alpha) for scale in (steepest, steepest))
    around = design.mixture(1 + max(1.0, steepest), planned + design.planned_variance, alpha)
    return value.interval(below, above, alpha), gain.interval(around, around, alpha)


def _inverse_propensity(
    table: EvidenceTable, scores: Scores, weights: Mapping[int, float]
) -> tuple[float, float, float]:
    """Return the IPS value and its standard error, in the metric's unit, and the effective sample size."""
    ratios, scale, n = _ratios(table, scores, weights), table.scale, float(scores.n[-1])
    values = scale.minimum * table.n + scale.width * table.sums
    squares = (
        scale.minimum**2 * table.n
        + 2 * scale.minimum * scale.width * table.sums
        + scale.width**2 * table.squares
    )
    mean = float((ratios * values).sum()) / n
    variance = max(float((ratios**2 * squares).sum()) - n * mean**2, 0.0)
    weight = float((ratios * table.n).sum())
    # Without a decision of the split's arms in these rows there is nothing but their centres.
    size = weight**2 / float((ratios**2 * table.n).sum()) if weight > 0 else 0.0
    return mean, variance**0.5 / n, size


def _ratios(table: EvidenceTable, scores: Scores, weights: Mapping[int, float]) -> FloatArray:
    """Return q / pi of every arm of the table, 0 where an epoch or an arm does not count."""
    q = np.array([weights.get(arm, 0.0) for arm in table.arms])
    counts = scores.is_used[:, np.newaxis] & (q > 0)
    return np.asarray(np.divide(q, table.shares, out=np.zeros_like(table.shares), where=counts))


_ALIKE = 1e-9
"""Shares that differ by less are alike."""
