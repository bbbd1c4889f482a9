"""Stacks: the same pair of arms in many runs, evaluated by one call of the library.

The factor of a row depends on that row only, so rows of all runs can be handed over as those of one pair.
Sums over a run's rows are then its e-process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.pairs import CHALLENGER, CHAMPION, Pair, pair_of
from bandit.inference.data.table import EvidenceTable
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds, mixed
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.search import Sign
from benchmarks.validity.worlds.rates import FloatArray


@dataclass(frozen=True, eq=False)
class Stack:
    """One challenger and the champion in each run.

    Attributes:
        pairs: Run to its pair; runs in which the arms can't be compared are left out.
        n_runs: Number of runs.
        n_rows: Number of rows of the tables.
        is_binary: Whether outcomes are yes/no.
        design: The design of the tests.
    """

    pairs: dict[int, Pair]
    n_runs: int
    n_rows: int
    is_binary: bool
    design: Design

    def against_difference(self, delta: float, sign: Sign) -> FloatArray:
        """Return ln E against "at most `delta`" (sign 1) or "at least" after each row, (n_runs, n_rows)."""
        if not self.pairs:
            return np.zeros((self.n_runs, self.n_rows))
        if self.is_binary:
            return self._mixed(self._odds.log_factors(delta, sign))
        total, variance, weight = self._scores
        return np.asarray(self._test.log_e_value(sign * (total - delta * weight), variance))

    def against_ratio(self, ratio: float, sign: Sign) -> FloatArray:
        """Return the same against a ratio of yes/no rates."""
        if not self.pairs:
            return np.zeros((self.n_runs, self.n_rows))
        return self._mixed(self._odds.log_factors_of_ratio(ratio, sign))

    def margins(self, level: float) -> FloatArray:
        """Return the half-widths of the last intervals of amounts, before cuts at the range, (n_runs,)."""
        _, variance, weight = (each[:, -1] for each in self._scores)
        margins = self._test.boundary(variance, level)
        return np.divide(margins, weight, out=np.full_like(margins, np.inf), where=weight > 0)

    def _mixed(self, factors: FloatArray) -> FloatArray:
        places = np.zeros((self.n_runs, self.n_rows, factors.shape[1]))
        places[self._places] = factors
        return mixed(places.cumsum(axis=1))

    @cached_property
    def _tested(self) -> dict[int, Pair]:
        return {run: pair.tested() for run, pair in self.pairs.items()}

    @cached_property
    def _places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The run and the row of each stacked row."""
        runs = [np.full(len(pair.rows), run) for run, pair in self._tested.items()]
        return np.concatenate(runs), np.concatenate([pair.rows for pair in self._tested.values()])

    @cached_property
    def _odds(self) -> CentredOdds:
        return CentredOdds(stacked(list(self._tested.values())))

    @cached_property
    def _test(self) -> BoundedTest:
        pair = next(iter(self.pairs.values()))
        weight = self.design.largest_weight(pair.arm, pair.champion)
        return BoundedTest(weight, self.design.alpha / 2)

    @cached_property
    def _scores(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """S of challenger less champion, V and W after each row, each of shape (n_runs, n_rows)."""
        steps = np.zeros((3, self.n_runs, self.n_rows))
        for run, pair in self._tested.items():
            weight = self.design.largest_weight(pair.arm, pair.champion)
            scores = BoundedScores(pair, weight, self._test)
            gaps = scores.sums[CHALLENGER] - scores.sums[CHAMPION]
            sums = np.stack([gaps, scores.variances.sum(axis=0), scores.weight])
            steps[:, run, pair.rows] = np.diff(sums, axis=1, prepend=0.0)
        total, variance, weights = steps.cumsum(axis=2)
        return total, variance, weights


def stack_of(tables: Sequence[EvidenceTable], arm: int, champion: int, design: Design) -> Stack:
    """Return the pair of two arms in the tables of many runs."""
    found = [pair_of(table, arm, champion) for table in tables]
    return Stack(
        pairs={run: pair for run, pair in enumerate(found) if isinstance(pair, Pair)},
        n_runs=len(tables),
        n_rows=max(len(table.shares) for table in tables),
        is_binary=tables[0].scale.is_binary,
        design=design,
    )


def stacked(pairs: Sequence[Pair]) -> Pair:
    """Return the rows of all pairs as those of one: good for what depends on single rows."""
    return Pair(
        arm=pairs[0].arm,
        champion=pairs[0].champion,
        rows=np.concatenate([pair.rows for pair in pairs]),
        part=np.concatenate([pair.part for pair in pairs]),
        n=np.concatenate([pair.n for pair in pairs], axis=1),
        sums=np.concatenate([pair.sums for pair in pairs], axis=1),
        squares=np.concatenate([pair.squares for pair in pairs], axis=1),
        centre=np.concatenate([pair.centre for pair in pairs]),
        centres=np.concatenate([pair.centres for pair in pairs], axis=1),
        is_tested=np.concatenate([pair.is_tested for pair in pairs]),
    )
