"""P(arm is best), expected losses and the value remaining, by quadrature instead of simulation.

``p_a = integral of f_a(z) * product over b != a of F_b(z)``, f being densities and F distribution functions over a
coordinate in which every posterior is smooth (`bandit.curves`). The line is cut into panels no wider than the
narrowest density that is alive there, with a Gauss-Legendre rule on each. F is not evaluated but integrated along
with f, by the interpolating polynomial of the panel, from its value at the left end: one exponential a node in
place of an incomplete beta function. The probabilities' sum, which is the change of the product of all F, must
come out as 1, and that is checked on every call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandit.curves import Curves, curves_of
from bandit.panels import Panels, chunks, panel_edges
from bandit.posteriors import Posterior

FloatArray: TypeAlias = NDArray[np.float64]

SUM_TOLERANCE = 1e-8
"""How far probabilities may be from summing to 1 before they are scaled to do so."""

# Elements of the largest temporary array, 1 MB: a chunk fits into the cache.
_CHUNK_ELEMENTS = 1 << 17
_TINY = 1e-300


class QuadratureError(ArithmeticError):
    """The probabilities did not sum to 1: the posteriors are beyond what floating point can integrate."""

    def __init__(self, total: float, n_arms: int) -> None:
        self.total = total
        self.n_arms = n_arms
        super().__init__(f"the probabilities of {n_arms} arms sum to {total:.12g} instead of 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class BestArmSummary:
    """What is believed about which arm is best.

    Attributes:
        probabilities: P(arm is best), shape (n_arms,), summing to 1 within 1e-9.
        expected_losses: how much is lost on average by choosing the arm for good, E[best value] - E[its value]
            (with minimize: its value - the best), shape (n_arms,), not negative, in the metric's unit. Infinite
            where an expectation does not exist: Student-t with df <= 1 beside another arm.
    """

    probabilities: FloatArray
    expected_losses: FloatArray


def best_arm_probabilities(posteriors: Sequence[Posterior], *, maximize: bool = True) -> FloatArray:
    """P(arm has the best value), shape (n_arms,), each within 1e-9, summing to 1.

    Arms that can't matter, because another arm is better with all but some 1e-13 of probability, get exactly 0.

    Raises:
        ValueError: there is no posterior, or they are not comparable: Normal and Student-t may be mixed, and no
            other families.
        QuadratureError: the sum's check failed.

    >>> from bandit.posteriors import BetaPosterior
    >>> best_arm_probabilities([BetaPosterior(31, 971), BetaPosterior(37, 965)]).round(9).tolist()
    [0.228076985, 0.771923015]
    """
    probabilities, _ = _integrate(curves_of(posteriors, maximize=maximize), with_losses=False)
    return probabilities


def best_arm_summary(posteriors: Sequence[Posterior], *, maximize: bool = True) -> BestArmSummary:
    """P(arm is best) and expected losses from one pass; see `best_arm_probabilities` for what it raises.

    >>> from bandit.posteriors import NormalPosterior
    >>> summary = best_arm_summary([NormalPosterior(0, 1), NormalPosterior(0, 1)])
    >>> summary.expected_losses.round(6).tolist()  # sqrt(1 / pi)
    [0.56419, 0.56419]
    """
    probabilities, losses = _integrate(curves_of(posteriors, maximize=maximize), with_losses=True)
    return BestArmSummary(probabilities=probabilities, expected_losses=losses)


def value_remaining_probability(
    posteriors: Sequence[Posterior], margin: float, *, arm: int, maximize: bool = True
) -> float:
    """P(some other arm is better than arm number `arm` by more than `margin`, relative to that arm's value).

    The value remaining in an experiment is ``(best value - value of the arm) / value of the arm`` (Scott 2015,
    section 3.3); with minimize, ``(value of the arm - best value) / value of the arm``. Meant for values that are
    positive. The result is in [0, 1], within 1e-9.

    Args:
        posteriors: comparable with each other, see `best_arm_probabilities`.
        margin: not negative; below 1 with minimize.
        arm: index of the arm that would be chosen.
        maximize: whether large values are good.

    Raises:
        ValueError: `margin` is outside its range, or the posteriors are not comparable.
        IndexError: there is no such arm.
        QuadratureError: the sum's check failed.

    >>> from bandit.posteriors import BetaPosterior
    >>> arms = [BetaPosterior(31, 971), BetaPosterior(37, 965)]
    >>> [round(value_remaining_probability(arms, margin, arm=1), 4) for margin in (0.0, 0.01, 0.1)]
    [0.2281, 0.2141, 0.1115]
    """
    if not (isfinite(margin) and margin >= 0) or (margin >= 1 and not maximize):
        raise ValueError(f"margin must be in [0, {'inf' if maximize else 1}), got {margin}")
    chosen = curves_of([posteriors[arm]], maximize=maximize)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of panels with everything evaluated at its nodes; arms not in `rows` lie to the left of it."""

    rows: NDArray[np.intp]
    nodes: FloatArray
    weights: FloatArray
    cumulative: FloatArray
    hazard: FloatArray
    product: FloatArray


def _pieces(curves: Curves, start: float, extra_edges: FloatArray | None = None) -> Iterator[_Piece]:
    """March over the line from `start`, the last of the densities' lower ends, to the last of their upper ends."""
    contenders = np.flatnonzero(curves.upper > start)
    upper = curves.upper[contenders]
    below = curves.cdf(start, contenders)
    edges = panel_edges(curves.widths.of(contenders), upper, start)
    if extra_edges is not None:
        edges = np.union1d(edges, extra_edges[(extra_edges > start) & (extra_edges < edges[-1])])
    for run in chunks(edges, upper, _CHUNK_ELEMENTS):
        alive = np.flatnonzero(upper > run[0])
        panels = Panels(run)
        density = curves.density(panels.nodes, contenders[alive])
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


def _checked(probabilities: FloatArray) -> FloatArray:
    total = float(probabilities.sum())
    if not abs(total - 1) <= SUM_TOLERANCE:
        raise QuadratureError(total, probabilities.size)
    return probabilities / total


def _probabilities(curves: Curves) -> FloatArray:
    probabilities = np.zeros(curves.lower.size)
    for piece in _pieces(curves, float(curves.lower.max())):
        probabilities[piece.rows] += piece.hazard @ (piece.product * piece.weights)
    return _checked(probabilities)


def _summary(curves: Curves) -> BestArmSummary:
    """Expected losses as integrals of ``F_a - product of all F`` over values: no difference of large numbers."""
    n_arms = curves.lower.size
    start, stop = float(curves.lower.max()), float(curves.upper.max())
    probabilities = np.zeros(n_arms)
    excess = curves.excess(stop)
    losses = curves.shortfall(start) + (excess.sum() - excess)
    for piece in _pieces(curves, start):
        probabilities[piece.rows] += piece.hazard @ (piece.product * piece.weights)
        per_value = piece.weights * curves.slopes(piece.nodes)
        gains = np.full(n_arms, (1 - piece.product) @ per_value)
        gains[piece.rows] = (piece.cumulative - piece.product) @ per_value
        losses += gains
