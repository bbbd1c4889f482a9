"""Defects of real logs: fallbacks, late outcomes, slow arms, and returning units.

The library reads the facts, so it is the library, not the benchmark, that leaves data out. For comparison,
the same tests also run with the defective data folded in. Epochs have one size; the first only is a centre.
"""

from dataclasses import replace

import numpy as np

from bandit.decision_id import Basis
from bandit.facts.units import estimate_repeats
from benchmarks.validity.measures.decisions import ALPHA, decide
from benchmarks.validity.measures.measurements import Sample, is_alarming, per_run
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import History, Shaping, collect
from benchmarks.validity.worlds.logs import Log, tables
from benchmarks.validity.worlds.rates import FloatArray
from benchmarks.validity.worlds.returning_units import FALLBACK_RATE, Population, simulate_visits

FALLBACK_PENALTY = 0.5
"""Success rate of fallbacks over that of other decisions, as the cause of fallbacks affects users too."""

LATE_RATES = (0.0, 0.03)
"""Share of failures that turn into successes after the window, of champion and challenger."""

WINDOW, SLOW = 8, 6
"""Epochs of the window, and epochs after which the slow arm's successes come."""


def with_fallbacks(
    truth: FloatArray, size: int, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Make 5 % of decisions fallbacks to the champion, which succeed half as often."""
    history = collect(truth, size, shaping, n_runs, rng)
    extra, won = np.zeros_like(history.n), np.zeros_like(history.n)
    extra[..., 0] = rng.binomial(size, FALLBACK_RATE, history.n.shape[:2])
    won[..., 0] = rng.binomial(extra[..., 0].astype(int), FALLBACK_PENALTY * truth[:, 0])

    def log_of(run: int) -> Log:
        return Log(
            shares=history.shares[run],
            n={Basis.POLICY: history.n[run], Basis.FALLBACK: extra[run]},
            sums={Basis.POLICY: history.sums[run], Basis.FALLBACK: won[run]},
        )

    folded = _replaced(history, history.n + extra, history.sums + won)
    return _compared([log_of(run) for run in range(n_runs)], folded, shaping)


def with_late_outcomes(
    truth: FloatArray, size: int, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Turn 3 % of the challenger's failures into successes after the window, within which arms are equal."""
    history = collect(truth, size, shaping, n_runs, rng)
    late = rng.binomial((history.n - history.sums).astype(int), LATE_RATES)
    logs = [_plain(history, run, late=late[run]) for run in range(n_runs)]
    return _compared(logs, _replaced(history, history.n, history.sums + late), shaping)


def with_unequal_delay(
    truth: FloatArray, size: int, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Delay the challenger's successes by six epochs, while the champion's come at once."""
    history = collect(truth, size, shaping, n_runs, rng)
    posted = history.sums.copy()
    posted[:, SLOW:, 1], posted[:, :SLOW, 1] = history.sums[:, :-SLOW, 1], 0.0
    logs = [_plain(history, run, window=WINDOW) for run in range(n_runs)]
    return _compared(logs, _replaced(history, history.n, np.minimum(posted, history.n)), shaping)


def with_returning_units(
    population: Population, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Count each unit once; for comparison, count decisions as new draws, and check if that is withheld."""
    visited = [simulate_visits(population, shaping, rng) for _ in range(n_runs)]
    whole = [_everything(each.decisions) for each in visited]
    n, sums = (np.array(each) for each in zip(*whole, strict=True))
    shares = np.array([each.decisions.shares for each in visited])
    folded = History(shares=shares, n=n, sums=sums, squares=sums)
    sample = _compared([each.units for each in visited], folded, shaping)
    withheld = np.array([float(estimate_repeats(each.groups).is_too_much) for each in visited])
    return sample | {"withheld": withheld, "unwithheld": sample["folded"] * (1 - withheld)}


def _compared(logs: list[Log], folded: History, shaping: Shaping) -> Sample:
    found = [tables(log) for log in logs]

    def of_run(run: int) -> dict[str, float]:
        return {"alarm": is_alarming(found[run][1]), "folded_alarm": is_alarming(folded.exposures(run))}

    naive = ZTests.of(folded.n, folded.sums)
    return {
        **per_run(len(logs), of_run),
        "any": decide([table for table, _ in found], shaping.design).is_any,
        "folded": decide(folded.tables(), shaping.design).is_any,
        "naive_peeked": naive.peeked(ALPHA),
    }


def _everything(log: Log) -> tuple[FloatArray, FloatArray]:
    """Return decisions and successes with fallbacks and late outcomes folded in."""
    n, sums = (np.sum(list(counts.values()), axis=0) for counts in (log.n, log.sums))
    return n, np.minimum(sums if log.late is None else sums + log.late, n)


def _plain(history: History, run: int, *, late: FloatArray | None = None, window: int = 1) -> Log:
    return Log(
        shares=history.shares[run],
        n={Basis.POLICY: history.n[run]},
        sums={Basis.POLICY: history.sums[run]},
        late=late,
        window=window,
    )


def _replaced(history: History, n: FloatArray, sums: FloatArray) -> History:
    return replace(history, n=n, sums=sums, squares=sums)
