"""Launches as a whole: five challengers that start a week apart, each through a ramp into the bandit.

There are 12 weeks of 10,000 decisions a day, in epochs of a fourth of a day. The champion converts 5 % and
errs 2 %, with a daily rhythm of 50 %. Each challenger has 1, 5, 10 and 25 % for two days each, and then takes
part in the bandit, where the champion keeps 20 % and each challenger 3 %. Evidence is that of the report, at
the levels of the hypotheses in the order in which they start, and so are the rules of promotion and rollback.
Nobody leaves after a finding: what is counted is whether a run has any.
"""

from dataclasses import dataclass, replace
from math import log
from typing import Final

import numpy as np
from scipy.special import ndtri

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.planning.launch import hypotheses
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import ratio_rows
from bandit.inference.sequential.results import RowwiseProcess
from bandit.launch.gates import LEAST_PROBABILITY
from bandit.metric import Direction
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.measures.decisions import ALPHA
from benchmarks.validity.measures.measurements import Sample
from benchmarks.validity.measures.stacks import stack_of
from benchmarks.validity.worlds.histories import History
from benchmarks.validity.worlds.rates import FloatArray

N_CHALLENGERS: Final = 5
_WEEKS, _WEEK, _LOOKS = 12, 7, 4
_A_DAY: Final = 10_000
_RAMP: Final = np.repeat([0.01, 0.05, 0.1, 0.25], 2 * _LOOKS)
_RESERVE, _FLOOR = 0.2, 0.03
_CYCLE: Final = _WEEK * _LOOKS
_LEAST_CYCLES: Final = 2
_N_ROWS: Final = _WEEKS * _CYCLE
_WORKDAYS: Final = 5
_MARGIN: Final = 1.1
_CONVERSION, _ERRORS = 0.05, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """The world of five launches.

    Attributes:
        lifts: The relative lift of each challenger.
        swing: What challengers gain on workdays; they lose 2.5 times that at weekends.
        missing: The part of outcomes that is never posted.
        late: Looks by which half of all errors come late; conversions count after so many.
    """

    lifts: tuple[float, ...] = (0.0,) * N_CHALLENGERS
    swing: float = 0.0
    missing: float = 0.0
    late: int = 0


def launch_five(world: Launches, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure what is promoted and what is taken out, beside rules that do without levels.

    Returns:
        For each run, whether a challenger that is no better was promoted at the report's levels, and by a
        z-test at whole weeks; whether the best was promoted, and when; and whether any was taken out over all
        looks: at the levels of the hypotheses, with a margin of a tenth, and each at .05.
    """
    history, best = _played(world, rng, n_runs)
    days = np.stack([_promoted(history, best, challenger) for challenger in range(N_CHALLENGERS)])
    is_better = np.array(world.lifts) > 0
    of_best = days[is_better].min(axis=0, initial=np.inf)
    errors = _errors(world, history, rng)
    harmed = np.stack([_harm(world, history, errors, each, 1.0) for each in range(N_CHALLENGERS)])
    beyond = np.stack([_harm(world, history, errors, each, _MARGIN) for each in range(N_CHALLENGERS)])
    levels = np.log([hypotheses(number) / ALPHA for number in range(1, N_CHALLENGERS + 1)])[:, np.newaxis]
    return {
        "promoted": np.isfinite(days[~is_better]).any(axis=0),
        "naive_promoted": np.stack(
            [_naively_promoted(history, each) for each in np.flatnonzero(~is_better).tolist()]
        ).any(axis=0),
        "best_promoted": np.isfinite(of_best),
        "day": of_best,
        "rolled_back": (harmed >= levels).any(axis=0),
        "margin_rolled_back": (beyond >= levels).any(axis=0),
        "each_rolled_back": (harmed >= log(1 / ALPHA)).any(axis=0),
    }


def _entry(challenger: int) -> int:
    """Return the row with which a challenger enters the bandit."""
    return challenger * _CYCLE + len(_RAMP)


def _played(world: Launches, rng: np.random.Generator, n_runs: int) -> tuple[History, FloatArray]:
    """Return the conversions of all runs, and P(best) after each row; (n_runs, n_rows, n_challengers)."""
    n_arms = 1 + N_CHALLENGERS
    shares, n, sums = (np.zeros((n_runs, _N_ROWS, n_arms)) for _ in range(3))
    best = np.zeros((n_runs, _N_ROWS, n_arms))
    rates = _conversions(world)
    for row in range(_N_ROWS):
        seen = slice(max(row - world.late, 0))
        shares[:, row], best[:, row] = _shares(row, n[:, seen].sum(axis=1), sums[:, seen].sum(axis=1))
        n[:, row] = rng.multinomial(_A_DAY // _LOOKS, shares[:, row])
        sums[:, row] = rng.binomial(n[:, row].astype(int), rates[row] * (1 - world.missing))
    return History(shares=shares, n=n, sums=sums, squares=sums), best[..., 1:]


def _conversions(world: Launches) -> FloatArray:
    """Return the rates of conversion, shape (n_rows, n_arms)."""
    day = np.arange(_N_ROWS) // _LOOKS % _WEEK
    effect = np.where(day < _WORKDAYS, world.swing, -world.swing * _WORKDAYS / (_WEEK - _WORKDAYS))
    factors = (1 + np.array(world.lifts)) * (1 + effect[:, np.newaxis])
    return np.asarray(_CONVERSION * np.concatenate([np.ones((_N_ROWS, 1)), factors], axis=1))


def _shares(row: int, n: FloatArray, sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the shares of a row and P(best) before it, from counts of shape (n_runs, n_arms)."""
    shares, best = np.zeros(n.shape), np.zeros(n.shape)
    pool = [0]
    for challenger in range(N_CHALLENGERS):
        place = row - challenger * _CYCLE
        if 0 <= place < len(_RAMP):
            shares[:, challenger + 1] = _RAMP[place]
        elif place >= len(_RAMP):
            pool.append(challenger + 1)
    left = 1 - shares.sum(axis=1, keepdims=True)
    if len(pool) == 1:
        shares[:, :1] = left
        return shares, best
    best[:, pool] = believe(sums[:, pool], n[:, pool] - sums[:, pool]).best
    floors = np.where(np.array(pool) == 0, _RESERVE, _FLOOR)
    shares[:, pool] = floors + (left - floors.sum()) * best[:, pool]
    return shares / shares.sum(axis=1, keepdims=True), best


def _promoted(history: History, best: FloatArray, challenger: int) -> FloatArray:
    """Return the day on which a challenger is promoted, infinite if it is not; shape (n_runs,)."""
    design = Design(alpha=ALPHA, n_challengers=hypotheses(challenger + 1))
    evidence = stack_of(history.tables(), challenger + 1, 0, design).against_difference(0.0, 1)
    is_established = evidence >= design.log_level
    ends = np.arange(1, _N_ROWS + 1)
    is_look = (ends % _CYCLE == 0) & (ends >= _LEAST_CYCLES * _CYCLE)
    was_shown = np.logical_or.accumulate(is_established & is_look, axis=1)
    is_time = ends >= _entry(challenger) + _LEAST_CYCLES * _CYCLE
    believed = np.concatenate([best[:, 1:, challenger], best[:, -1:, challenger]], axis=1)
    is_due = was_shown & is_established & is_time & (believed >= LEAST_PROBABILITY)
    return np.where(is_due.any(axis=1), ends[is_due.argmax(axis=1)] / _LOOKS, np.inf)


def _naively_promoted(history: History, challenger: int) -> FloatArray:
    """Return whether a one-sided z-test at .05 finds a challenger better at the end of any whole week."""
    columns, first = [0, challenger + 1], challenger * _CYCLE
    n, sums = (values[:, first:, columns].cumsum(axis=1) for values in (history.n, history.sums))
    pooled = sums.sum(axis=2) / n.sum(axis=2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(n, 1)).sum(axis=2))
    gap = sums[..., 1] / np.maximum(n[..., 1], 1) - sums[..., 0] / np.maximum(n[..., 0], 1)
    least = len(_RAMP) + _LEAST_CYCLES * _CYCLE
    looks = [end - 1 for end in range(_CYCLE, n.shape[1] + 1, _CYCLE) if end >= least]
    return np.asarray((gap[:, looks] > -ndtri(ALPHA) * error[:, looks]).any(axis=1))


def _errors(world: Launches, history: History, rng: np.random.Generator) -> FloatArray:
    """Draw errors: those that come at once, and those that come late; (2, n_runs, n_rows, n_arms)."""
    rates = _ERRORS * (1 + 0.5 * np.sin(2 * np.pi * np.arange(_N_ROWS) / _LOOKS)) * (1 - world.missing)
    errors = rng.binomial(history.n.astype(int), rates[:, np.newaxis])
    late = rng.binomial(errors, 0.5) if world.late else np.zeros_like(errors)
    return np.stack([errors - late, late]).astype(float)


def _harm(world: Launches, history: History, errors: FloatArray, challenger: int, ratio: float) -> FloatArray:
    """Return the largest ln E of harm over all looks, at the errors that have come in by each; (n_runs,)."""
    at_once = _process(history, errors[0], challenger, ratio)
    if at_once is None:
        return np.zeros(len(history.n))
    shape = (*history.n.shape[:2], -1)
    logs = at_once.terms.reshape(shape).cumsum(axis=1)
    late = _process(history, errors[1], challenger, ratio)
    if late is not None:
        logs[:, world.late :] += late.terms.reshape(shape).cumsum(axis=1)[:, : -world.late]
    return np.asarray(at_once.log_e_value(logs)[:, challenger * _CYCLE :].max(axis=1))


def _process(history: History, errors: FloatArray, challenger: int, ratio: float) -> RowwiseProcess | None:
    """Return the guardrail's process over the rows of all runs, one after the other; None without errors."""
    columns = [0, challenger + 1]
    shares, sums = (values[..., columns].reshape(-1, 2) for values in (history.shares, errors))
    scale = ValueScale(direction=Direction.MINIMIZE)
    table = EvidenceTable(arms=(0, 1), shares=shares, n=sums, sums=sums, squares=sums, scale=scale)
    found = ratio_rows(table, 1, 0, ratio, is_more=True)
    return None if isinstance(found, CannotSay) else found


EQUAL: Final = Launches()
WORLDS: Final = {
    "all alike": EQUAL,
    "all alike, a tenth of outcomes missing, others a day late": replace(EQUAL, missing=0.1, late=_LOOKS),
    "workdays +20 %, weekends -50 %": replace(EQUAL, swing=0.2),
    "the second 10 % better": replace(EQUAL, lifts=(0.0, 0.1, 0.0, 0.0, 0.0)),
}
