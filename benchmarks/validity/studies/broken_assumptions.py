"""Broken assumptions: how often the verdict is wrong then, and whether the report warns of it.

No test is valid if arms are not comparable: if they are better in turns, if silence depends on outcome and
arm, or if one arm's callers report events sooner. These studies measure how wrong the verdict gets.
"""

from dataclasses import replace
from math import log
from typing import Final

import numpy as np

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.scores import score
from bandit.metric import Direction
from benchmarks.validity.measures.decisions import ALPHA, decide
from benchmarks.validity.measures.measurements import Sample, is_alarming, per_run
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.rates import FloatArray

EVEN: Final = Shaping(floors=(0.5, 0.5), fixed=(0.5, 0.5))
_GUARDRAIL: Final = ValueScale(direction=Direction.MINIMIZE)


def arms_better_in_turns(
    truth: FloatArray, size: int, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Measure whether the challenger is found better, and whether all decisions confirm it at the end."""
    history = collect(truth, size, shaping, n_runs, rng)
    design = Design(alpha=ALPHA, floors=dict(enumerate(shaping.floors)))

    def of_run(run: int) -> dict[str, float]:
        table = history.table(run)
        verdict = decide(table, design)
        better, found = verdict.processes[1][0], 1 in verdict.better
        is_lapsed = better.mean.log_value < 0 or _difference(table, design) < 0
        return {
            "found": found,
            "stands": found and not is_lapsed,
            "aipw": better.aipw.rejects(ALPHA / 2),
            "odds": better.odds.rejects(ALPHA / 2),
        }

    return per_run(n_runs, of_run)


def unposted_failures(
    rate: float, answered: float, n_epochs: int, size: int, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Compare equal arms with silence ignored, where only some of the challenger's failures are posted."""
    history = collect(np.full((n_epochs, 2), rate), size, EVEN, n_runs, rng)
    failures = (history.n - history.sums).astype(int)
    failures[..., 1] = rng.binomial(failures[..., 1], answered)
    posted = replace(history, n=history.sums + failures)
    design = Design(alpha=ALPHA, floors=dict(enumerate(EVEN.floors)))

    def of_run(run: int) -> dict[str, float]:
        found, is_noticed = decide(posted.table(run), design).is_any, is_alarming(posted.exposures(run))
        return {"found": found, "stands": found and not is_noticed, "alarm": is_noticed}

    return per_run(n_runs, of_run)


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
    truth: FloatArray, size: int, n_challengers: int, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Test equal challengers one after the other, each adjusted for those before it."""
    design = Design(alpha=ALPHA, floors=dict(enumerate(EVEN.floors)))
    histories = [collect(truth, size, EVEN, n_runs, rng) for _ in range(n_challengers)]

    def finds(run: int, n_so_far: int) -> bool:
        pair = decide(histories[n_so_far - 1].table(run), design).processes[1]
        return any(processes.mean.rejects(ALPHA / (2 * n_so_far)) for processes in pair)

    def of_run(run: int) -> dict[str, float]:
        return {"found": any(finds(run, n_so_far) for n_so_far in range(1, n_challengers + 1))}

    return per_run(n_runs, of_run)


def _difference(table: EvidenceTable, design: Design) -> float:
    """Return the estimate of challenger less champion as a sum over decisions; 0 if there is no estimate."""
    scores = score(table, [1, 0], design, design.cap(1, 0))
    return 0.0 if isinstance(scores, CannotSay) else float(scores.sums[-1, 0] - scores.sums[-1, 1])
