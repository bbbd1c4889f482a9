"""Accuracy of plans: the decisions until the report's test sees a lift, compared with those planned."""

from math import ceil, log
from typing import Final

import numpy as np

from bandit.inference.planning.power import Plan, forecast_report
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from benchmarks.validity.measures.decisions import ALPHA, better_and_worse
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.rates import still


def measure_plan(base: float, lift: float, shaping: Shaping, rng: np.random.Generator, n_runs: int) -> Sample:
    """Simulate an experiment whose arm 1 has the lift over all others, until most runs have seen it.

    Args:
        base: Rate of the champion, and of other challengers.
        lift: Relative lift of arm 1.
        shaping: Floors, and a fixed split if there is one.
        rng: Generator of all random numbers.
        n_runs: Number of runs.

    Returns:
        For each run, the decisions `planned` for even odds, the decisions until the lift was `seen` in per
        cent of those, and whether it was seen within the plans for 1/2 and 4/5, `within_half` and
        `within_most`.
    """
    plan = _plan(base, lift, shaping)
    forecast = forecast_report(plan, is_yes_no=True)
    if isinstance(forecast, CannotSay):
        raise ValueError(forecast.explanation)  # noqa: TRY004 - the plan is wrong, not a type
    size = ceil(forecast.decisions_at_half / _EPOCHS_UNTIL_HALF)
    n_epochs = ceil(_BEYOND * forecast.decisions_at_most / size)
    rates = (base, base * (1 + lift), *(base for _ in shaping.floors[2:]))
    history = collect(still(rates, n_epochs), size, shaping, n_runs, rng)

    def of_run(run: int) -> dict[str, float]:
        processes = better_and_worse(history.table(run), 1, 0, plan.design)[0 if lift > 0 else 1]
        crossed = np.flatnonzero(np.array(processes.mean.log_values) >= log(plan.n_challengers / ALPHA))
        n = float(size * (crossed[0] + 1)) if len(crossed) else np.inf
        return {
            "planned": forecast.decisions_at_half,
            "seen": 100 * n / forecast.decisions_at_half,
            "within_half": n <= forecast.decisions_at_half,
            "within_most": n <= forecast.decisions_at_most,
        }

    return per_run(n_runs, of_run)


def _plan(base: float, lift: float, shaping: Shaping) -> Plan:
    return Plan(
        base_mean=base,
        lift=lift,
        decisions_per_day=1.0,
        champion_floor=shaping.floors[0],
        challenger_floor=shaping.floors[1],
        rest=0.0 if shaping.fixed is not None else 1 - sum(shaping.floors),
        n_challengers=len(shaping.floors) - 1,
        design=Design(alpha=ALPHA, floors=dict(enumerate(shaping.floors))),
    )


_EPOCHS_UNTIL_HALF: Final = 60
_BEYOND: Final = 1.1
