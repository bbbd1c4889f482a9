"""P(arm is best), expected losses and the value remaining, by quadrature instead of simulation.

``p_a = integral of f_a(z) * product over b != a of F_b(z)``, where f are densities and F distribution
functions over a coordinate in which every posterior is smooth (`bandit.posteriors.curves`). The line is cut
into panels no wider than the narrowest density with mass there, with a Gauss-Legendre rule on each. F is not
evaluated but integrated with f, by the interpolating polynomial of the panel, from its value at the left end:
this costs one exponential per node instead of an incomplete beta function. The sum of the probabilities is
the change of the product of all F and must be 1; every call checks it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from bandit.posteriors import Posterior
from bandit.posteriors.curves import Curves, curves_of
from bandit.posteriors.curves.panels import FloatArray, Panels, Rows, chunks, panel_edges

SUM_TOLERANCE = 1e-9
"""How far the sum of the probabilities may be from 1 before they are normalised."""

# Elements of the largest temporary array, 1 MB: a chunk fits into the cache.
_CHUNK_ELEMENTS = 1 << 17
_TINY = 1e-300


class QuadratureError(ArithmeticError):
    """The probabilities do not sum to 1: floating point cannot integrate these posteriors."""

    def __init__(self, total: float, n_arms: int) -> None:
        self.total = total
        self.n_arms = n_arms
        super().__init__(f"the probabilities of {n_arms} arms sum to {total:.12g} instead of 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestArmSummary:
    """Beliefs about which arm is best.

    Attributes:
        probabilities: P(arm is best), shape (n_arms,), summing to 1 within 1e-9.
        expected_losses: the expected loss of choosing the arm for good, E[best value] - E[its value] (the
            other way round if small values are good), shape (n_arms,), not negative, in the metric's unit,
            within 1e-9 of the widest posterior's 90 % interval (less exact for Student-t with df < 3).
            Infinite if an expectation does not exist: if one of several arms is a Student-t with df <= 1.
    """

    probabilities: FloatArray
    expected_losses: FloatArray


def best_arm_probabilities(posteriors: Sequence[Posterior], *, maximize: bool = True) -> FloatArray:
    """Return P(arm has the best value), shape (n_arms,), each within 1e-9, summing to 1.

    An arm gets exactly 0 if another arm is better with probability 1 up to about 1e-13.

    Raises:
        ValueError: there is no posterior, or they are not comparable: only Normal and Student-t may be mixed.
        QuadratureError: the probabilities do not sum to 1.

    >>> from bandit.posteriors import BetaPosterior
    >>> best_arm_probabilities([BetaPosterior(31, 971), BetaPosterior(37, 965)]).round(9).tolist()
    [0.228076985, 0.771923015]
    """
    curves = curves_of(posteriors, maximize=maximize)
    probabilities = np.zeros(len(posteriors))
    for piece in _pieces(curves, np.arange(len(posteriors))):
        probabilities[piece.rows] += piece.hazard @ (piece.product * piece.weights)
    return _scaled_to_one(probabilities)


def best_arm_summary(posteriors: Sequence[Posterior], *, maximize: bool = True) -> BestArmSummary:
    """Return P(arm is best) and expected losses; raises the errors of `best_arm_probabilities`.

    >>> from bandit.posteriors import NormalPosterior
    >>> summary = best_arm_summary([NormalPosterior(0, 1), NormalPosterior(0, 1)])
    >>> summary.expected_losses.round(6).tolist()  # sqrt(1 / pi)
    [0.56419, 0.56419]
    """
    curves = curves_of(posteriors, maximize=maximize)
    probabilities = np.zeros(len(posteriors))
    losses = _losses_outside(curves)
    for piece in _pieces(curves, np.arange(len(posteriors))):
        probabilities[piece.rows] += piece.hazard @ (piece.product * piece.weights)
        per_value = piece.weights * curves.slopes(piece.nodes)
        # Rounding may leave F above 1 or below the product, and a heavy tail would magnify the error.
        gains = np.full(len(posteriors), np.maximum(1 - piece.product, 0.0) @ per_value)
        gains[piece.rows] = np.maximum(piece.cumulative - piece.product, 0.0) @ per_value
        losses += gains
    return BestArmSummary(probabilities=_scaled_to_one(probabilities), expected_losses=losses)


def value_remaining_probability(
    posteriors: Sequence[Posterior], margin: float, *, arm: int, maximize: bool = True
) -> float:
    """Return P(some other arm is better than `arm` by more than `margin`, relative to the value of `arm`).

    The value remaining in an experiment is ``(best value - value of the arm) / value of the arm`` (Scott
    2015), or ``(value of the arm - best value) / value of the arm`` if small values are good. Meant for
    positive values. The result is in [0, 1], within 1e-9.

    Args:
        posteriors: comparable with each other, see `best_arm_probabilities`.
        margin: not negative; below 1 if small values are good.
        arm: index of the arm that would be chosen.
        maximize: True if large values are good.

    Raises:
        ValueError: `margin` is outside its range, or the posteriors are not comparable.
        IndexError: there is no such arm.
        QuadratureError: the probabilities do not sum to 1.

    >>> from bandit.posteriors import BetaPosterior
    >>> arms = [BetaPosterior(31, 971), BetaPosterior(37, 965)]
    >>> [round(value_remaining_probability(arms, margin, arm=1), 4) for margin in (0.0, 0.01, 0.1)]
    [0.2281, 0.2157, 0.1264]
    """
    if not (isfinite(margin) and margin >= 0) or (margin >= 1 and not maximize):
        raise ValueError(f"margin must be in [0, {'inf' if maximize else 1}), got {margin}")
    curves = curves_of(posteriors, maximize=maximize)
    chosen = np.arange(curves.lower.size)[[arm]]
    others = np.delete(np.arange(curves.lower.size), arm)
    if others.size == 0:
        return 0.0
    reach = 1 + margin if maximize else 1 - margin
    own_edges = panel_edges(curves.widths.of(chosen), curves.upper[chosen], curves.lower[chosen].item())
    remaining = total = 0.0
    for piece in _pieces(curves, others, curves.scaled(own_edges, reach)):
        best_of_others = piece.hazard.sum(axis=0) * piece.product * piece.weights
        total += best_of_others.sum()
        remaining += best_of_others @ curves.cdf(curves.scaled(piece.nodes, 1 / reach), chosen)
    _require_unit_sum(total, others.size)
    return min(1.0, float(remaining / total))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of panels with all functions evaluated at its nodes; arms not in `rows` lie to the left of it."""

    rows: Rows
    nodes: FloatArray
    weights: FloatArray
    cumulative: FloatArray
    hazard: FloatArray
    product: FloatArray


def _pieces(curves: Curves, arms: Rows, extra_edges: FloatArray | None = None) -> Iterator[_Piece]:
    """Yield pieces from the last of these arms' lower ends to the last of their upper ends."""
    start = float(curves.lower[arms].max())
    contenders = arms[curves.upper[arms] > start]
    upper = curves.upper[contenders]
    below = curves.cdf(start, contenders)
    edges = panel_edges(curves.widths.of(contenders), upper, start)
    if extra_edges is not None:
        edges = np.union1d(edges, extra_edges[(extra_edges > start) & (extra_edges < edges[-1])])
    for run in chunks(edges, upper, _CHUNK_ELEMENTS):
        alive = np.flatnonzero(upper > run[0])
        panels = Panels(run)
        density = curves.density(panels, contenders[alive])
        cumulative, below[alive] = panels.cumulative(density, below[alive])
        np.maximum(cumulative, _TINY, out=cumulative)
        yield _Piece(
            rows=contenders[alive],
            nodes=panels.nodes,
            weights=panels.weights,
            cumulative=cumulative,
            hazard=np.divide(density, cumulative, out=density),
            product=np.multiply.reduce(cumulative, axis=0),
        )


def _require_unit_sum(total: float, n_arms: int) -> None:
    if not abs(total - 1) <= SUM_TOLERANCE:
        raise QuadratureError(total, n_arms)


def _scaled_to_one(probabilities: FloatArray) -> FloatArray:
    total = float(probabilities.sum())
    _require_unit_sum(total, probabilities.size)
    return np.asarray(probabilities / total)


def _losses_outside(curves: Curves) -> FloatArray:
    """Return the part of the losses outside the panels.

    Losses are integrals of ``F_a - product of all F`` over values; unlike differences of means, they do not
    subtract large numbers. Left of the first panel the product is 0; right of the last one F is 1, and the
    product is below 1 by the excess of the other arms.
    """
    if curves.lower.size == 1:
        return np.zeros(1)
    excess = curves.excess(float(curves.upper.max()))
    if not np.isfinite(excess).all():
        return np.full(excess.size, inf)
    return np.asarray(curves.shortfall(float(curves.lower.max())) + (excess.sum() - excess))
