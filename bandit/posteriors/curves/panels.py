"""Panels for integrating densities of very different widths, with a Gauss-Legendre rule on each."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, nextafter
from typing import TypeAlias

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]

N_NODES = 16

# From this number of rows, numpy is faster than a loop in Python.
_VECTOR_FROM_ROWS = 16


@dataclass(frozen=True, slots=True)
class Widths:
    """The largest width of a panel that starts at z: ``min(cap, max(core, slope * abs(z - centre)))``.

    All arrays have shape (n_arms,).
    """

    cap: FloatArray
    core: FloatArray
    slope: FloatArray
    centre: FloatArray

    def of(self, rows: Rows | NDArray[np.bool_]) -> "Widths":
        """Return the widths of these arms only."""
        return Widths(self.cap[rows], self.core[rows], self.slope[rows], self.centre[rows])


def panel_edges(widths: Widths, upper: FloatArray, start: float) -> FloatArray:
    """Return edges of panels from `start` to the last of the ends `upper`, shape (n_panels + 1,), ascending.

    Each panel is at most as wide as every density that ends beyond its left edge allows there. All densities
    must begin at or before `start`.
    """
    stop = float(upper.max())
    is_plain = widths.core >= widths.cap
    plain = _plain_allowance(widths.cap[is_plain], upper[is_plain])
    bent = _bent_allowance(widths.of(~is_plain), upper[~is_plain])
    edges = [start]
    at = start
    while at < stop:
        # A step too small to be represented must still advance.
        at = min(max(at + min(plain(at), bent(at)), nextafter(at, inf)), stop)
        edges.append(at)
    return np.array(edges)


def _plain_allowance(widths: FloatArray, upper: FloatArray) -> Callable[[float], float]:
    """Return the least constant width of the densities that end beyond a point: steps that rise with it."""
    ends: list[float] = []
    steps: list[float] = []
    for index in np.argsort(widths, kind="stable"):
        if not ends or upper[index] > ends[-1]:
            ends.append(float(upper[index]))
            steps.append(float(widths[index]))
    steps.append(inf)
    return lambda at: steps[bisect_right(ends, at)]


def _bent_allowance(widths: Widths, upper: FloatArray) -> Callable[[float], float]:
    """Return the same for densities whose width grows with the distance from a centre."""
    columns = (upper, widths.cap, widths.core, widths.slope, widths.centre)
    if upper.size >= _VECTOR_FROM_ROWS:
        return lambda at: _least_width(at, columns)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))

    def allowance(at: float) -> float:
        allowed = inf
        for end, cap, core, slope, centre in rows:
            if end > at:
                allowed = min(allowed, cap, max(core, slope * abs(at - centre)))
        return allowed

    return allowance


def _least_width(at: float, columns: tuple[FloatArray, ...]) -> float:
    upper, cap, core, slope, centre = columns
    allowed = np.minimum(cap, np.maximum(core, slope * np.abs(at - centre)))
    return float(allowed.min(initial=inf, where=upper > at))


class Panels:
    """Adjacent panels between `edges`, ascending, with `N_NODES` Gauss-Legendre nodes each.

    Attributes:
        nodes: where to evaluate, shape (n_panels * N_NODES,), ascending.
        weights: weights of the nodes in an integral over all panels, same shape.
    """

    __slots__ = ("_halves", "_left", "_within", "nodes", "weights")

    def __init__(self, edges: FloatArray) -> None:
        self._left = edges[:-1]
        self._halves = 0.5 * (edges[1:] - self._left)[:, np.newaxis]
        self._within = self._halves * (1 + _NODES)
        self.nodes = (self._left[:, np.newaxis] + self._within).ravel()
        self.weights = (self._halves * _WEIGHTS).ravel()

    def offsets_from(self, origins: FloatArray) -> FloatArray:
        """Return nodes minus each origin, shape (n_rows, n_panels * N_NODES), without rounding the nodes."""
        offsets = (self._left - origins[:, np.newaxis])[:, :, np.newaxis] + self._within
        return np.asarray(offsets.reshape(origins.size, -1))

    def cumulative(self, density: FloatArray, below: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the integrals of densities up to each node, and up to the last edge.

        `density` has shape (n_rows, n_panels * N_NODES), and `below`, shape (n_rows,), holds the integrals
        left of the first edge. The first result has the shape of `density`, the second that of `below`.
        """
        scaled = density.reshape(below.size, -1, N_NODES) * self._halves
        masses = scaled @ _WEIGHTS
        ends = below[:, np.newaxis] + np.cumsum(masses, axis=1)
        up_to = scaled @ _PARTIAL_WEIGHTS
        up_to += (ends - masses)[:, :, np.newaxis]
        return up_to.reshape(density.shape), ends[:, -1]


def chunks(edges: FloatArray, upper: FloatArray, n_elements: int) -> Iterator[FloatArray]:
    """Cut edges into runs of panels whose densities * nodes, of densities not yet ended, fit `n_elements`."""
    first = 0
    while first < edges.size - 1:
        n_alive = int(np.count_nonzero(upper > edges[first]))
        last = min(first + max(1, n_elements // (n_alive * N_NODES)), edges.size - 1)
        yield edges[first : last + 1]
        first = last


def _partial_weights(nodes: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the integrals of the j-th Lagrange polynomial of the nodes from -1 to node i, at [j, i].

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
