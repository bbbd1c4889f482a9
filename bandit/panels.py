"""Panels for integrating densities of very different widths, and the Gauss-Legendre rule on each of them."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from math import inf

import numpy as np
from numpy.polynomial import legendre

from bandit.curves.base import FloatArray, Widths

N_NODES = 16

# From here on numpy beats a loop in Python.
_VECTOR_FROM_ROWS = 16


def panel_edges(widths: Widths, upper: FloatArray, start: float) -> FloatArray:
    """Edges of panels from `start` to the last of the ends `upper`, shape (n_panels + 1,), ascending.

    No panel is wider than any density allows, at the panel's left edge, that ends beyond that edge. All
    densities must have begun at `start`.
    """
    stop = float(upper.max())
    is_plain = widths.core >= widths.cap
    plain = _plain_allowance(widths.cap[is_plain], upper[is_plain])
    bent = _bent_allowance(widths, upper, ~is_plain)
    edges = [start]
    at = start
    while at < stop:
        following = at + min(plain(at), bent(at))
        # A step too small to be represented still has to lead somewhere.
        at = min(following if following > at else np.nextafter(at, inf), stop)
        edges.append(at)
    return np.array(edges)


def _plain_allowance(widths: FloatArray, upper: FloatArray) -> Callable[[float], float]:
    """The least constant width of the densities that end beyond a point: a staircase that climbs to the right."""
    ends: list[float] = []
    steps: list[float] = []
    for index in np.argsort(widths, kind="stable"):
        if not ends or upper[index] > ends[-1]:
            ends.append(float(upper[index]))
            steps.append(float(widths[index]))
    steps.append(inf)
    return lambda at: steps[bisect_right(ends, at)]


def _bent_allowance(widths: Widths, upper: FloatArray, chosen: FloatArray) -> Callable[[float], float]:
    """The same of densities whose width grows with the distance from a centre."""
    columns = (upper[chosen], widths.cap[chosen], widths.core[chosen], widths.slope[chosen], widths.centre[chosen])
    if columns[0].size >= _VECTOR_FROM_ROWS:
        return lambda at: _least_width(at, *columns)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))

    def allowance(at: float) -> float:
        return min(
            (
                min(cap, max(core, slope * abs(at - centre)))
                for end, cap, core, slope, centre in rows
                if end > at
            ),
            default=inf,
        )

    return allowance


def _least_width(
    at: float, upper: FloatArray, cap: FloatArray, core: FloatArray, slope: FloatArray, centre: FloatArray
) -> float:
    allowed = np.minimum(cap, np.maximum(core, slope * np.abs(at - centre)))
    return float(allowed.min(initial=inf, where=upper > at))


class Panels:
    """Neighbouring panels between `edges`, ascending, with `N_NODES` Gauss-Legendre nodes each.

    Attributes:
        nodes: where to evaluate, shape (n_panels * N_NODES,), ascending.
        weights: of the nodes in an integral over all panels, same shape.
    """

    __slots__ = ("_halves", "nodes", "weights")

    def __init__(self, edges: FloatArray) -> None:
        self._halves = 0.5 * np.diff(edges)[:, np.newaxis]
        centres = edges[:-1, np.newaxis] + self._halves
        self.nodes = (centres + self._halves * _NODES).ravel()
        self.weights = (self._halves * _WEIGHTS).ravel()

    def cumulative(self, density: FloatArray, below: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Integrals of densities up to each node, and up to the last edge.

        `density` has shape (n_rows, n_panels * N_NODES), and `below`, shape (n_rows,), is what lies left of the
        first edge. The first result has the shape of `density`, the second that of `below`.
        """
        scaled = density.reshape(below.size, -1, N_NODES) * self._halves
        masses = scaled @ _WEIGHTS
        ends = below[:, np.newaxis] + np.cumsum(masses, axis=1)
        up_to = scaled @ _PARTIAL_WEIGHTS
        up_to += (ends - masses)[:, :, np.newaxis]
        return up_to.reshape(density.shape), ends[:, -1]


def chunks(edges: FloatArray, upper: FloatArray, n_elements: int) -> Iterator[FloatArray]:
    """Cut edges into runs of panels for which (densities that are alive) * nodes stays within `n_elements`."""
    first = 0
    while first < edges.size - 1:
        n_alive = int(np.count_nonzero(upper > edges[first]))
        last = min(first + max(1, n_elements // (n_alive * N_NODES)), edges.size - 1)
        yield edges[first : last + 1]
        first = last


def _partial_weights(nodes: FloatArray, weights: FloatArray) -> FloatArray:
    """Entry (j, i) is the integral of the j-th Lagrange polynomial of the nodes from -1 to node i.

    From the Legendre series of the polynomial and ``(2k + 1) P_k = P'_(k+1) - P'_(k-1)`` (Abramowitz & Stegun
    1964, 8.6.4 and 22.7).
    """
    polynomials = legendre.legvander(nodes, nodes.size)
    partial = np.outer(weights, nodes + 1) / 2
    for k in range(1, nodes.size):
        partial += np.outer(weights * polynomials[:, k], polynomials[:, k + 1] - polynomials[:, k - 1]) / 2
    return partial


_NODES, _WEIGHTS = legendre.leggauss(N_NODES)
_PARTIAL_WEIGHTS = _partial_weights(_NODES, _WEIGHTS)
