"""Accuracy of plans: the decisions until the report's test sees a lift, compared with those planned."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, inf
from typing import Final

import numpy as np

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.planning.power import Forecast, Plan, forecast
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.bounded_scores import BoundedScores, BoundedTest
from bandit.inference.sequential.centred_odds import CentredOdds
from benchmarks.validity.measures.beliefs import believe
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.histories import Shaping
from benchmarks.validity.worlds.rates import FloatArray


def measure_plan(
    base: float,
    lift: float,
    shaping: Shaping,
    rng: np.random.Generator,
    n_runs: int,
    *,
    as_amounts: bool = False,
) -> Sample:
    """Simulate an experiment whose arm 1 has the lift over all others, until most runs have seen it.

    Args:
        base: Rate of the champion, and of other challengers.
        lift: Relative lift of arm 1.
        shaping: Floors, and a fixed split if there is one.
        rng: Generator of all random numbers.
        n_runs: Number of runs.
        as_amounts: Plan and test as if the metric were not yes/no, by bounded scores.

    Returns:
        For each run, the decisions `planned` for even odds, the decisions until the lift was `seen` in per
        cent of those, and whether it was seen within the plans for 1/2 and 4/5, `within_half` and
        `within_most`.
    """
    plan = _plan(base, lift, shaping, as_amounts=as_amounts)
    planned = forecast(plan, is_yes_no=not as_amounts)
    if isinstance(planned, CannotSay):
        raise ValueError(planned.explanation)  # noqa: TRY004 - the plan is wrong, not a type
    ends = _epoch_ends(planned)
    shares, n, sums = _simulate(plan, shaping, ends, n_runs, rng)

    def of_run(run: int) -> dict[str, float]:
        seen = _seen_at(plan, shares[run], n[run], sums[run], ends, as_amounts=as_amounts)
        return {
            "planned": planned.decisions_at_half,
            "seen": 100 * seen / planned.decisions_at_half,
            "within_half": seen <= planned.decisions_at_half,
            "within_most": seen <= planned.decisions_at_most,
        }

    return per_run(n_runs, of_run)


def _plan(base: float, lift: float, shaping: Shaping, *, as_amounts: bool) -> Plan:
    return Plan(
        base_mean=base,
        lift=lift,
        decisions_per_day=1.0,
        champion_floor=shaping.floors[0],
        challenger_floor=shaping.floors[1],
        rest=0.0 if shaping.fixed is not None else 1 - sum(shaping.floors),
        variance=base * (1 - base) if as_amounts else None,
        n_challengers=len(shaping.floors) - 1,
    )


def _epoch_ends(planned: Forecast) -> Sequence[int]:
    """Return the decisions at which epochs end; they grow by a quarter, up to a sixtieth of the plan."""
    longest = ceil(planned.decisions_at_half / _EPOCHS_UNTIL_HALF)
    ends = [_FIRST]
    while ends[-1] < _BEYOND * planned.decisions_at_most:
        ends.append(ends[-1] + min(max(_FIRST, ends[-1] // _GROWTH), longest))
    return ends


def _simulate(
    plan: Plan, shaping: Shaping, ends: Sequence[int], n_runs: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return shares, decisions and successes, each of shape (n_runs, n_epochs, n_arms)."""
    n_arms, base = plan.n_challengers + 1, plan.means[0]
    rates = np.array([base, plan.means[1], *[base] * (n_arms - 2)])
    shares, n, sums = (np.zeros((n_runs, len(ends), n_arms)) for _ in range(3))
    for epoch, (start, end) in enumerate(pairwise([0, *ends])):
        best = np.full((n_runs, n_arms), 1 / n_arms)
        if shaping.fixed is None:
            successes = sums.sum(axis=1)
            best = believe(successes, n.sum(axis=1) - successes).best
        shares[:, epoch] = shaping.shares(best)
        likely = shares[:, epoch] / shares[:, epoch].sum(axis=1, keepdims=True)
        n[:, epoch] = rng.multinomial(end - start, likely)
        sums[:, epoch] = rng.binomial(n[:, epoch].astype(int), rates)
    return shares, n, sums


def _seen_at(
    plan: Plan,
    shares: FloatArray,
    n: FloatArray,
    sums: FloatArray,
    ends: Sequence[int],
    *,
    as_amounts: bool,
) -> float:
    """Return the decisions at the first look that finds the lift; infinite if none does."""
    table = EvidenceTable(
        arms=tuple(range(n.shape[1])), shares=shares, n=n, sums=sums, squares=sums, scale=ValueScale()
    )
    pair = pair_of(table, 1, 0)
    if isinstance(pair, CannotSay):
        return inf
    tested = pair.tested()
    log_values = np.asarray(_log_e_values(plan, tested, as_amounts=as_amounts))
    found = np.flatnonzero(log_values >= plan.design.log_level)
    return float(ends[tested.rows[found[0]]]) if len(found) else inf


def _log_e_values(plan: Plan, pair: Pair, *, as_amounts: bool) -> Sequence[float]:
    """Return ln E after each row, in the direction of the lift."""
    if not as_amounts:
        return CentredOdds(pair).process(1 if plan.lift > 0 else -1).log_values
    weight = plan.design.largest_weight(1, 0)
    test = BoundedTest(weight, plan.design.alpha / 2)
    return BoundedScores(pair, weight, test).process(1 if plan.lift > 0 else -1).log_values


_FIRST: Final = 32
_GROWTH: Final = 4
_EPOCHS_UNTIL_HALF: Final = 60
_BEYOND: Final = 1.1
