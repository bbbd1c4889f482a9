"""Broken assumptions: how often the verdict is wrong then, and whether the report warns of it.

No test is valid if arms are not comparable: if they are better in turns, if silence depends on outcome and
arm, or if one arm's callers report events sooner. These studies measure how wrong the verdict gets.
"""

from dataclasses import replace
from math import log
from typing import Final

import numpy as np

from bandit.inference.data.table import ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.odds import harm_process
from bandit.metric import Direction
from benchmarks.validity.measures.decisions import ALPHA, BETTER, decide
from benchmarks.validity.measures.measurements import Sample, is_alarming, per_run
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.layouts import Layout
from benchmarks.validity.worlds.rates import FloatArray

EVEN: Final = Shaping(floors=(0.5, 0.5), fixed=(0.5, 0.5))
_GUARDRAIL: Final = ValueScale(direction=Direction.MINIMIZE)


def arms_better_in_turns(
    truth: FloatArray, layout: Layout, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Measure whether the challenger is found better at some look, and whether that stands at the end."""
    verdicts = decide(collect(truth, layout, shaping, n_runs, rng).tables(), shaping.design)
    return {"found": verdicts.found[:, 0, BETTER], "stands": verdicts.stands[:, 0, BETTER]}


def unposted_failures(
    rate: float, answered: float, layout: Layout, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Compare equal arms with silence ignored, where only some of the challenger's failures are posted."""
    history = collect(np.full((len(layout.epochs), 2), rate), layout, EVEN, n_runs, rng)
    failures = (history.n - history.sums).astype(int)
    failures[..., 1] = rng.binomial(failures[..., 1], answered)
    posted = replace(history, n=history.sums + failures)
    verdicts = decide(posted.tables(), EVEN.design)
    noticed = np.array([float(is_alarming(posted.exposures(run))) for run in range(n_runs)])
    stands = verdicts.stands.max(axis=(1, 2)) * (1 - noticed)
    return {"found": verdicts.is_any, "stands": stands, "alarm": noticed}


def unequal_report_delay(
    rate: float, late: int, n_epochs: int, size: int, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Compare equal errors in open epochs, where the champion's come `late` epochs after the challenger's."""
    history = collect(np.full((n_epochs, 2), rate), size, EVEN, n_runs, rng)

    def fires(run: int, look: int, *, is_open: bool) -> bool:
        table = replace(history.table(run, look), scale=_GUARDRAIL)
        sums = table.sums.copy()
        sums[max(look - late, 0) :, 0 if is_open else slice(None)] = 0.0
        process = harm_process(replace(table, sums=sums, squares=sums), 1, 0)
        return not isinstance(process, CannotSay) and process.log_value >= log(1 / ALPHA)

    def of_run(run: int) -> dict[str, float]:
        looks = range(1, n_epochs + 1)
        return {
            "found": any(fires(run, look, is_open=True) for look in looks),
            "stands": any(fires(run, look, is_open=False) for look in looks),
        }

    return per_run(n_runs, of_run)


def successive_challengers(
    truth: FloatArray, layout: Layout, n_challengers: int, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Test equal challengers one after the other, each at the level of as many as there were by then."""
    found = np.zeros(n_runs)
    for n_so_far in range(1, n_challengers + 1):
        tables = collect(truth, layout, EVEN, n_runs, rng).tables()
        found = np.maximum(found, decide(tables, replace(EVEN.design, n_challengers=n_so_far)).is_any)
    return {"found": found}
