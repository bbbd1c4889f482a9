"""Rules for rolling back, side by side: when each takes out a challenger with more errors, and when wrongly.

Errors are 2 % with a daily rhythm of 50 %, at 10,000 decisions a day, looked at every hour for 28 days: a
ramp of 1, 5, 10, 25 and 50 % for two days each, and then half of the traffic. Beside the guardrail stand
imitations of what other tools do: a threshold on the last hour that takes several failed checks, in all or in
a row (as Flagger and Argo Rollouts count them), and a Mann-Whitney test of hourly rates at .01, repeated
every six hours over the last two days (as Kayenta compares series).
"""

from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.planning.launch import hypotheses
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.odds import harm_process
from bandit.metric import Direction
from benchmarks.validity.measures.decisions import ALPHA
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.rates import FloatArray

_DAYS, _LOOKS, _A_DAY = 28, 24, 10_000
_N_ROWS: Final = _DAYS * _LOOKS
_RAMP: Final = (0.01, 0.05, 0.1, 0.25, 0.5)
_DAYS_OF_A_STEP: Final = 2
_BASE, _MARGIN, _THRESHOLD, _FAILED = 0.02, 1.1, 2.0, 5
_TESTED_EVERY, _LOOK_BACK, _SIGNIFICANT = 6, 48, 0.01


def take_out(ratio: float, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure how often each rule takes out a challenger with a multiple of the errors, and on which day."""
    step = np.minimum(np.arange(_N_ROWS) // (_LOOKS * _DAYS_OF_A_STEP), len(_RAMP) - 1)
    share = np.array(_RAMP)[step]
    shares = np.stack([1 - share, share], axis=1)
    rates = _BASE * (1 + 0.5 * np.sin(2 * np.pi * np.arange(_N_ROWS) / _LOOKS))
    n = rng.poisson(shares * _A_DAY / _LOOKS, (n_runs, _N_ROWS, 2))
    sums = rng.binomial(n, rates[:, np.newaxis] * np.array([1.0, ratio])).astype(float)
    hourly = sums / np.maximum(n, 1)
    is_failed = (hourly[..., 1] > _THRESHOLD * hourly[..., 0]) & (n[..., 1] > 0)
    days = {
        "guardrail": _by_process(shares, n.astype(float), sums, 1.0),
        "margin": _by_process(shares, n.astype(float), sums, _MARGIN),
        "in_all": _first(is_failed.cumsum(axis=1) >= _FAILED),
        "in_a_row": _first(_in_a_row(is_failed) >= _FAILED),
        "mann_whitney": _by_mann_whitney(hourly),
    }
    fires = {f"{rule}_fires": np.isfinite(values).astype(float) for rule, values in days.items()}
    return fires | {f"{rule}_day": values for rule, values in days.items()}


def _by_process(shares: FloatArray, n: FloatArray, sums: FloatArray, ratio: float) -> FloatArray:
    """Return the day on which the guardrail of a launch's first challenger fires, in each run."""
    level, scale = log(hypotheses(1) / ALPHA), ValueScale(direction=Direction.MINIMIZE)

    def of_run(run: int) -> dict[str, float]:
        table = EvidenceTable(
            arms=(0, 1), shares=shares, n=n[run], sums=sums[run], squares=sums[run], scale=scale
        )
        process = harm_process(table, 1, 0, ratio)
        values = np.zeros(1) if isinstance(process, CannotSay) else np.asarray(process.log_values)
        return {"day": float(_first((values >= level)[np.newaxis])[0])}

    return per_run(len(n), of_run)["day"]


def _in_a_row(is_failed: NDArray[np.bool_]) -> FloatArray:
    """Return how many checks up to each have failed without a break."""
    total = is_failed.cumsum(axis=1)
    before = np.maximum.accumulate(np.where(is_failed, 0, total), axis=1)
    return np.asarray(total - before)


def _by_mann_whitney(hourly: FloatArray) -> FloatArray:
    """Return the day on which the test of the last two days finds more errors, in each run."""
    days = np.full(len(hourly), np.inf)
    for hour in range(_LOOKS, _N_ROWS + 1, _TESTED_EVERY):
        going = np.flatnonzero(np.isinf(days))
        if not len(going):
            break
        tested = hourly[going, max(hour - _LOOK_BACK, 0) : hour]
        found = stats.mannwhitneyu(
            tested[..., 1], tested[..., 0], alternative="greater", axis=1, method="asymptotic"
        )
        days[going[found.pvalue <= _SIGNIFICANT]] = hour / _LOOKS
    return days


def _first(is_found: NDArray[np.bool_]) -> FloatArray:
    """Return the day of the first look that finds something, infinite if none does; (n_runs,)."""
    return np.where(is_found.any(axis=1), (is_found.argmax(axis=1) + 1) / _LOOKS, np.inf)
