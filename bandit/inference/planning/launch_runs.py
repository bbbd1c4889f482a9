"""Simulated launches of one challenger: when the report's rule would promote it.

Each run walks through the steps of a plan (`walk`), with shares as the plan says and, in the bandit stage, as
a policy like Thompson sampling would move them: ``floor_a + rest * P(best)_a``, from outcomes whose window
has closed. Counts are binomial and multinomial; outcomes that are not yes/no are drawn as sums, from the
normal law. Beliefs are normal too, which agrees with beta beliefs within a hundredth from some 20 events on.

The rule is that of `bandit.inference.verdict.advice` and `bandit.launch.gates`: the e-process has reached its
level where a whole cycle ended, has it now, the challenger is believed best with .95, and the bandit stage
has lasted its minimum. A row is a fourteenth of a cycle, or at most a fourth of its step; long stages have
longer rows, so that there are at most 280. A promotion is dated to the end of a row.
"""

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.planning.expected_sums import CHALLENGER, CHAMPION
from bandit.inference.planning.walk import StepTime
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.search import Sign
from bandit.launch.gates import LEAST_PROBABILITY

MOST_OTHERS: Final = 4
"""Other challengers that are simulated; any more keep to their floors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is simulated.

    Attributes:
        steps: The steps with their times; the last is the bandit stage.
        longest: Days that the bandit stage may last.
        cycle: Days of a cycle.
        minimum_cycles: Whole cycles in the bandit stage, and since the start, before a promotion.
        decisions_per_day: Decisions over all arms.
        window: Days until an outcome counts.
        means: Means of champion and challenger in positions; other challengers are like the champion.
        variances: Variances of one outcome of both.
        is_less_better: Whether the smaller mean is better.
        is_yes_no: Whether outcomes are 0 or 1.
        reserve: The champion's minimum share in the bandit stage.
        floor: A challenger's minimum share in the bandit stage.
        maximum_share: The largest share of a challenger in the bandit stage.
        design: Of the test, for floors.
    """

    steps: tuple[StepTime, ...]
    longest: float
    cycle: float
    minimum_cycles: int
    decisions_per_day: float
    window: float
    means: tuple[float, float]
    variances: tuple[float, float]
    is_less_better: bool
    is_yes_no: bool
    reserve: float
    floor: float
    maximum_share: float
    design: Design

    @property
    def entry(self) -> float:
        """Day on which the bandit stage begins."""
        return self.steps[-1].starts

    @property
    def earliest(self) -> float:
        """Day from which the gates of the bandit stage are open, evidence aside."""
        return self.steps[-1].ends

    @property
    def sign(self) -> Sign:
        """The direction of an improvement."""
        return -1 if self.is_less_better else 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaunchRuns:
    """Simulated launches.

    Attributes:
        ends: Day on which each row ends, shape (n_rows,).
        shares: Shares of champion, challenger and others, shape (n_runs, n_rows, n_arms).
        evidence: Ln E of "the challenger is better" after each row, shape (n_runs, n_rows).
        best: P(best) of the challenger after each row, shape (n_runs, n_rows).
        course: What was simulated.
    """

    ends: FloatArray
    shares: FloatArray
    evidence: FloatArray
    best: FloatArray
    course: Course

    @property
    def starts(self) -> FloatArray:
        """Day on which each row starts, shape (n_rows,)."""
        return np.concatenate([[0.0], self.ends[:-1]])

    @property
    def _is_look(self) -> NDArray[np.bool_]:
        """Whether a row ends nearest to the end of a whole cycle that counts, shape (n_rows,)."""
        middles = (self.ends[1:] + self.ends[:-1]) / 2
        bounds = np.concatenate([[0.0], middles, self.ends[-1:]])
        cycles = np.floor(bounds / self.course.cycle + _ROUNDING)
        return np.asarray((np.diff(cycles) > 0) & (cycles[1:] >= self.course.minimum_cycles))

    def promoted_on(self, log_level: float) -> FloatArray:
        """Return the day of the promotion in each run, infinite without one; shape (n_runs,)."""
        course, seen = self.course, self.ends + self.course.window
        is_shown = (self.evidence >= log_level) & self._is_look
        was_shown = np.logical_or.accumulate(is_shown, axis=1)
        is_time = (seen >= course.earliest - _ROUNDING) & (seen <= course.entry + course.longest + _ROUNDING)
        is_due = was_shown & (self.evidence >= log_level) & (self.best >= LEAST_PROBABILITY) & is_time
        return np.where(is_due.any(axis=1), seen[is_due.argmax(axis=1)], inf)


def simulate(course: Course, n_runs: int, rng: np.random.Generator) -> LaunchRuns:
    """Simulate launches from the first step to the end of the bandit stage.

    Args:
        course: What is simulated.
        n_runs: Their number.
        rng: The source of randomness.
    """
    starts, ends, places = _rows(course)
    n_others = min(course.steps[-1].n_beside, MOST_OTHERS)
    world = _World(course, n_others)
    shape = (n_runs, len(ends), 2 + n_others)
    shares, n, sums, squares = (np.zeros(shape) for _ in range(4))
    best = np.zeros(shape[:2])
    for row, (start, end, place) in enumerate(zip(starts, ends, places, strict=True)):
        known = slice(int(np.searchsorted(ends, start - course.window + _ROUNDING, side="right")))
        step = course.steps[place]
        if step.is_bandit:
            believed = world.believe(n[:, known].sum(axis=1), sums[:, known].sum(axis=1))
            shares[:, row] = world.pooled(believed)
        else:
            shares[:, row] = world.fixed(step)
        n[:, row] = _multinomial((end - start) * course.decisions_per_day, shares[:, row], rng)
        sums[:, row], squares[:, row] = world.outcomes(n[:, row], rng)
    totals, won = n.cumsum(axis=1), sums.cumsum(axis=1)
    for row in np.flatnonzero(ends + course.window >= course.earliest - _ROUNDING).tolist():
        best[:, row] = world.believe(totals[:, row], won[:, row])[:, CHALLENGER]
    evidence = np.stack([_evidence(course, *each) for each in zip(shares, n, sums, squares, strict=True)])
    return LaunchRuns(ends=ends, shares=shares, evidence=evidence, best=best, course=course)


def _rows(course: Course) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Return the day on which each row starts and ends, and the place of its step."""
    bounds, places = [0.0], []
    for place, step in enumerate(course.steps):
        length = course.longest if step.is_bandit else step.typical
        most = _MOST_ROWS if step.is_bandit else _MOST_ROWS_OF_A_STEP
        rows = min(max(ceil(length / course.cycle * _ROWS_OF_A_CYCLE), _ROWS_OF_A_STEP), most)
        bounds += (step.starts + length * np.arange(1, rows + 1) / rows).tolist()
        places += [place] * rows
    days = np.array(bounds)
    return days[:-1], days[1:], np.array(places, dtype=np.intp)


def _multinomial(total: float, shares: FloatArray, rng: np.random.Generator) -> FloatArray:
    likely = np.clip(shares, 0.0, 1.0)
    whole = int(total) + (rng.random(len(shares)) < total - int(total))
    return np.asarray(rng.multinomial(whole, likely / likely.sum(axis=1, keepdims=True)), dtype=float)


def _evidence(course: Course, shares: FloatArray, *counts: FloatArray) -> FloatArray:
    """Return the report's evidence that the challenger is better after each row of one run.

    Args:
        course: What is simulated.
        shares: Shares of the run, shape (n_rows, n_arms).
        counts: Counts, sums and sums of squares, of that shape.
    """
    n, sums, squares = counts
    table = EvidenceTable(
        arms=tuple(range(shares.shape[1])),
        shares=shares,
        n=n,
        sums=sums,
        squares=squares,
        scale=ValueScale(is_binary=course.is_yes_no),
    )
    pair = pair_of(table, CHALLENGER, CHAMPION)
    if isinstance(pair, CannotSay) or not pair.is_tested.any():
        return np.zeros(len(shares))
    tested = pair.tested()
    places = np.searchsorted(tested.rows, np.arange(len(shares)), side="right") - 1
    return np.where(places >= 0, _process(course, tested)[np.maximum(places, 0)], 0.0)


def _process(course: Course, tested: Pair) -> FloatArray:
    if course.is_yes_no:
        return np.asarray(CentredOdds(tested).process(course.sign).log_values)
    weight = course.design.largest_weight(CHALLENGER, CHAMPION)
    scores = BoundedScores(tested, weight, BoundedTest(weight, course.design.alpha / 2))
    return np.asarray(scores.process(course.sign).log_values)


class _World:
    """Shares, beliefs and outcomes of champion, challenger and others, in that order."""

    def __init__(self, course: Course, n_others: int) -> None:
        self._course = course
        self._means = np.array([*course.means, *[course.means[CHAMPION]] * n_others])
        self._variances = np.array([*course.variances, *[course.variances[CHAMPION]] * n_others])
        self._floors = np.array([course.reserve, *[course.floor] * (1 + n_others)])
        self._unseen = (course.steps[-1].n_beside - n_others) * course.floor

    def fixed(self, step: StepTime) -> FloatArray:
        """Return the shares in a step at a fixed share, shape (n_arms,)."""
        n_others = len(self._means) - 2
        beside = np.arange(n_others) < step.n_beside
        return np.array([step.champion_share, step.share, *(step.share * beside)])

    def pooled(self, best: FloatArray) -> FloatArray:
        """Return the shares in the bandit stage from P(best), both of shape (n_runs, n_arms)."""
        rest = max(1 - self._floors.sum() - self._unseen, 0.0)
        shares = self._floors + rest * best
        cap = max(self._course.maximum_share, self._course.floor)
        over = np.maximum(shares[:, CHALLENGER:] - cap, 0.0)
        shares[:, CHALLENGER:] -= over
        shares[:, CHAMPION] += over.sum(axis=1)
        return np.asarray(shares)

    def believe(self, n: FloatArray, sums: FloatArray) -> FloatArray:
        """Return P(best) from counts and sums, all of shape (n_runs, n_arms)."""
        mean = (sums + 1) / (n + 2)
        spread = mean * (1 - mean) / (n + 3) if self._course.is_yes_no else self._variances / (n + 1)
        return chances_of_best(self._course.sign * mean, np.sqrt(spread))

    def outcomes(self, n: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw sums and sums of squares for counts of shape (n_runs, n_arms)."""
        if self._course.is_yes_no:
            sums = rng.binomial(n.astype(np.int64), self._means).astype(float)
            return sums, sums
        sums = np.clip(rng.normal(n * self._means, np.sqrt(n * self._variances)), 0.0, n)
        squares = np.divide(sums**2, n, out=np.zeros_like(n), where=n > 0) + n * self._variances
        return sums, np.minimum(squares, sums)


def chances_of_best(means: FloatArray, spreads: FloatArray) -> FloatArray:
    """Return the probability that each arm's draw is the largest, if draws are normal; by quadrature.

    Args:
        means: Shape (n_runs, n_arms).
        spreads: Standard deviations, of that shape; positive.
    """
    if means.shape[1] == 2:  # noqa: PLR2004 - champion and challenger: no quadrature needed
        gap = means[:, CHALLENGER] - means[:, CHAMPION]
        challenger = scipy.special.ndtr(gap / np.sqrt((spreads**2).sum(axis=1)))
        return np.stack([1 - challenger, challenger], axis=1)
    draws = means[..., np.newaxis] + spreads[..., np.newaxis] * _NODES
    beaten = scipy.special.ndtr(
        (draws[:, :, np.newaxis] - means[:, np.newaxis, :, np.newaxis])
        / spreads[:, np.newaxis, :, np.newaxis]
    )
    own = np.arange(means.shape[1])
    beaten[:, own, own] = 1.0
    best = beaten.prod(axis=2) @ _WEIGHTS
    return np.asarray(best / best.sum(axis=1, keepdims=True))


_ROWS_OF_A_CYCLE: Final = 14
_ROWS_OF_A_STEP: Final = 4
_MOST_ROWS_OF_A_STEP: Final = 28
_MOST_ROWS: Final = 280
_ROUNDING: Final = 1e-9
_NODES: Final = np.linspace(-4.0, 4.0, 17)
_WEIGHTS: Final = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
