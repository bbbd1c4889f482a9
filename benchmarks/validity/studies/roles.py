"""Guardrails with a margin, and signals, of a challenger whose errors are a multiple of the champion's.

Errors are 2 % with a daily rhythm of 50 %, at 10,000 decisions a day. A guardrail is looked at six times a
day for 28 days: through a ramp of 1, 5, 10, 25 and 50 % for two days each, and then under shares that favour
whoever had fewer errors so far. A signal is looked at four times a day for eight weeks at a share of 25 %.
"""

from math import log
from typing import Final

import numpy as np
from scipy.special import ndtri

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.harm.margins import Ratio, early_process, edge_of, margin_evidence
from bandit.inference.harm.signals import SignalState, signal_state
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import RowwiseProcess
from bandit.metric import Direction, Margin, Metric
from benchmarks.validity.measures.decisions import ALPHA
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.worlds.rates import FloatArray

BASE: Final = 0.02
SIGNAL_DAYS: Final = 56
_A_DAY: Final = 10_000
_GUARDRAIL_DAYS: Final = 28
_GUARDRAIL_LOOKS: Final = 6
_SIGNAL_LOOKS: Final = 4
_RAMP: Final = np.repeat([0.01, 0.05, 0.1, 0.25, 0.5], 2 * _GUARDRAIL_LOOKS)
_FEWER: Final = ValueScale(direction=Direction.MINIMIZE)
_DESIGN: Final = Design(alpha=ALPHA)


def guard(margin: Margin | None, ratio: float, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure when harm beyond a margin is found; where there is one, also when it is found to be none."""
    metric = Metric(name="error", direction=Direction.MINIMIZE, is_guardrail=True, worse_by=margin)

    def of_run(_run: int) -> dict[str, float]:
        table = _launched(ratio, rng)
        found = margin_evidence(metric, table, 1, 0, _DESIGN)
        edge = edge_of(metric)
        beyond = early_process(table, 1, 0, edge, is_worse=True) if isinstance(edge, Ratio) else found.beyond
        fired = _first(beyond, 1 / ALPHA)
        figures = {"fires": np.isfinite(fired), "day": fired / _GUARDRAIL_LOOKS}
        if margin is None:
            return figures
        cleared = _first(found.within, 2 / ALPHA)
        return {**figures, "cleared": np.isfinite(cleared), "cleared_day": cleared / _GUARDRAIL_LOOKS}

    return per_run(n_runs, of_run)


def hold(ratios: FloatArray, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure how often a signal changes and how long it is on, beside a z-test of the last day's errors.

    Args:
        ratios: The challenger's rate over the champion's on each day.
        rng: The generator.
        n_runs: The number of runs.
    """
    metric = Metric(name="error", direction=Direction.MINIMIZE, is_signal=True)
    n_rows = _SIGNAL_LOOKS * len(ratios)
    shares = np.tile([0.75, 0.25], (n_rows, 1))
    rate = _rhythm(n_rows, _SIGNAL_LOOKS)
    rates = np.stack([rate, rate * np.repeat(ratios, _SIGNAL_LOOKS)], axis=1)

    def of_run(_run: int) -> dict[str, float]:
        n = rng.poisson(shares * _A_DAY / _SIGNAL_LOOKS)
        sums = rng.binomial(n, rates).astype(float)
        table = _table(shares, n.astype(float), sums)
        state = signal_state(metric, table, 1, 0, _DESIGN)
        changes = state.changes if isinstance(state, SignalState) else ()
        is_on = np.zeros(n_rows)
        for row in changes:
            is_on[row:] = 1 - is_on[row:]
        naive = _is_worse_in_the_last_day(table)
        return {
            "held": bool(changes),
            "changes": len(changes),
            "part": is_on.mean(),
            "on_at_end": is_on[-1],
            "naive_changes": np.count_nonzero(np.diff(naive, prepend=0.0)),
            "naive_part": naive.mean(),
        }

    return per_run(n_runs, of_run)


def _launched(ratio: float, rng: np.random.Generator) -> EvidenceTable:
    """Return the table of one launch."""
    n_rows = _GUARDRAIL_DAYS * _GUARDRAIL_LOOKS
    shares, n, sums = (np.zeros((n_rows, 2)) for _ in range(3))
    rates = _rhythm(n_rows, _GUARDRAIL_LOOKS)[:, np.newaxis] * np.array([1.0, ratio])
    for row in range(n_rows):
        seen = (sums[:row].sum(axis=0) + 1) / (n[:row].sum(axis=0) + 1)
        share = _RAMP[row] if row < len(_RAMP) else 0.8 if seen[1] < seen[0] else 0.2
        shares[row] = 1 - share, share
        n[row] = rng.multinomial(_A_DAY // _GUARDRAIL_LOOKS, shares[row])
        sums[row] = rng.binomial(n[row].astype(int), rates[row])
    return _table(shares, n, sums)


def _table(shares: FloatArray, n: FloatArray, sums: FloatArray) -> EvidenceTable:
    return EvidenceTable(arms=(0, 1), shares=shares, n=n, sums=sums, squares=sums, scale=_FEWER)


def _rhythm(n_rows: int, looks: int) -> FloatArray:
    return np.asarray(BASE * (1 + 0.5 * np.sin(2 * np.pi * np.arange(n_rows) / looks)))


def _first(process: RowwiseProcess | CannotSay, level: float) -> float:
    """Return the number of rows until a process first reaches a level; infinite if it never does."""
    if isinstance(process, CannotSay):
        return np.inf
    reached = np.flatnonzero(process.log_values() >= log(level))
    return process.rows[reached[0]] + 1 if len(reached) else np.inf


def _is_worse_in_the_last_day(table: EvidenceTable) -> FloatArray:
    """Return after each row whether a one-sided z-test of the last day's errors finds more, at .05."""
    n, sums = (_last_day(values) for values in (table.n, table.sums))
    pooled = sums.sum(axis=1) / n.sum(axis=1)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n).sum(axis=1))
    z = (sums[:, 1] / n[:, 1] - sums[:, 0] / n[:, 0]) / error
    return np.asarray(z > -ndtri(ALPHA), dtype=float)


def _last_day(values: FloatArray) -> FloatArray:
    total = np.cumsum(values, axis=0)
    total[_SIGNAL_LOOKS:] -= total[:-_SIGNAL_LOOKS].copy()
    return total
