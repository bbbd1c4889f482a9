"""Error rates and power of rules for promotion and rolling back, over simulated weeks.

There are 28 days with 4,000 decisions each, in epochs that grow on the first day and last a quarter of a day
afterwards; the challenger may gain on workdays and lose at
weekends. The library's own `rule` is evaluated after every day.
"""

from dataclasses import replace
from datetime import timedelta
from math import log
from typing import Final

import numpy as np

from bandit.inference.data.table import ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.results import EProcess
from bandit.inference.verdict.advice import Advice, Rules, rule
from bandit.inference.verdict.advice import Beliefs as RulingBeliefs
from bandit.inference.verdict.assessment import Assessment, MetricEvidence
from bandit.inference.verdict.claims import N_DIRECTIONS, ChallengerEvidence, Claim, TestKind
from bandit.metric import Direction, Metric
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import value_remaining_probability
from benchmarks.validity.measures.beliefs import Beliefs, believe
from benchmarks.validity.measures.decisions import ALPHA, BETTER, decide
from benchmarks.validity.measures.measurements import Sample, per_run
from benchmarks.validity.measures.z_tests import ZTests
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.layouts import Layout, growing
from benchmarks.validity.worlds.logs import STARTED_AT
from benchmarks.validity.worlds.rates import FloatArray

N_DAYS: Final = 28
DAY_SIZE: Final = 4_000
_EPOCH_SIZE: Final = DAY_SIZE // 4
LAYOUT: Final = Layout((*growing(DAY_SIZE, largest=_EPOCH_SIZE).sizes, *(_EPOCH_SIZE,) * (4 * (N_DAYS - 1))))
_METRIC: Final = Metric(name="success", window=timedelta(hours=6), default_value=0.0)
_NOTHING: Final = CannotSay(Reason.NO_DECISIONS)
_UNTIL_DAY: Final = 14
_FROM_DAY: Final = 7
_ROW_ENDS: Final = tuple(STARTED_AT + timedelta(days=end / DAY_SIZE) for end in LAYOUT.ends.tolist())
_ROWS_BY_DAY: Final = np.searchsorted(LAYOUT.ends, DAY_SIZE * np.arange(1, N_DAYS + 1), side="right")
"""Rows by the end of each day, shape (n_days,)."""


def promote(truth: FloatArray, shaping: Shaping, rng: np.random.Generator, n_runs: int) -> Sample:
    """Measure whether each rule promotes the challenger at some look, and the day of the library's rule."""
    history = collect(truth, LAYOUT, shaping, n_runs, rng)
    won, lost = (_by_day(values) for values in (history.sums, history.n - history.sums))
    days = [believe(won[:, day], lost[:, day]) for day in range(N_DAYS)]
    best = np.stack([day.best[:, 1] for day in days], axis=1)
    loss = np.stack([day.relative_loss[:, 1] for day in days], axis=1)
    verdicts = decide(history.tables(), shaping.design)
    paths = verdicts.paths[:, 0, BETTER]
    daily = paths[:, _ROWS_BY_DAY[_FROM_DAY - 1 :] - 1] >= verdicts.log_level

    def of_run(run: int) -> dict[str, float]:
        process = EProcess.of(paths[run])
        day, advice = _ruled(process, [beliefs_of(belief, run) for belief in days])
        settled = _first_settled(won[run], lost[run], best[run])
        return {
            "best_day_1": (best[run] >= _LEAST_PROBABILITY).any(),
            "best_day_14": (best[run, _UNTIL_DAY - 1 :] >= _LEAST_PROBABILITY).any(),
            "loss": (loss[run] <= _ONE_PER_CENT).any(),
            "value_remaining": settled,
            "daily": daily[run].any(),
            "ours": advice is Advice.PROMOTE,
            "retired": advice is Advice.RETIRE,
            "day": day if advice is Advice.PROMOTE else np.inf,
        }

    return per_run(n_runs, of_run)


def roll_back(
    base: float, ratio: float, size: int, n_epochs: int, rng: np.random.Generator, n_runs: int
) -> Sample:
    """Measure how guardrail, fuse and peeked z-test respond to errors of a challenger with 5 % of traffic."""
    shaping = Shaping(floors=(0.95, 0.05), fixed=(0.95, 0.05))
    truth = np.tile([base, base * ratio], (n_epochs, 1))
    history = collect(truth, size, shaping, n_runs, rng)
    level, scale = log(1 / ALPHA), ValueScale(direction=Direction.MINIMIZE)
    rates = history.sums.cumsum(axis=1) / np.maximum(history.n.cumsum(axis=1), 1)
    rules, errors = Rules(), history.sums[..., 1].cumsum(axis=1)
    trips = (errors >= rules.trip_events) & (rates[..., 1] >= rules.trip_ratio * rates[..., 0])

    def of_run(run: int) -> dict[str, float]:
        process = harm_process(replace(history.table(run), scale=scale), 1, 0)
        logs = np.array([0.0] if isinstance(process, CannotSay) else process.log_values)
        fired = np.flatnonzero(logs >= level)
        return {
            "fires": len(fired) > 0,
            "decisions": (fired[0] + 1) * size if len(fired) else np.inf,
            "trips": trips[run].any(),
        }

    naive = ZTests.of(history.n, history.sums)
    return {**per_run(n_runs, of_run), "naive_peeked": naive.peeked(ALPHA)}


def beliefs_of(beliefs: Beliefs, run: int) -> RulingBeliefs:
    """Return one run's beliefs in the form that `rule` takes."""
    probabilities, losses = beliefs.best[run], beliefs.relative_loss[run]
    return RulingBeliefs(
        probability_best=dict(enumerate(probabilities.tolist())),
        champion_loss=float(losses[0]),
        harms={},
    )


def _ruled(process: EProcess, days: list[RulingBeliefs]) -> tuple[float, Advice]:
    """Return the first day on which `rule` returns other advice than to wait, and that advice."""
    for day, beliefs in enumerate(days, 1):
        assessment = _assessment(process, int(_ROWS_BY_DAY[day - 1]))
        ruling = rule(assessment, beliefs, STARTED_AT, STARTED_AT + timedelta(days=day))
        if ruling.advice is not Advice.WAIT:
            return day, ruling.advice
    return np.inf, Advice.WAIT


def _assessment(process: EProcess, n_rows: int) -> Assessment:
    """Return the assessment that `rule` reads, after `n_rows` rows."""
    so_far = EProcess(process.log_values[:n_rows])
    better = Claim(
        test=TestKind.CENTRED_ODDS, process=so_far, n_tests=N_DIRECTIONS, rows=tuple(range(n_rows))
    )
    evidence = MetricEvidence(
        metric=_METRIC,
        means={},
        paths={},
        challengers={1: ChallengerEvidence(arm=1, comparison=_NOTHING, better=better, worse=_NOTHING)},
        response=_NOTHING,
        row_ends=_ROW_ENDS[:n_rows],
    )
    return Assessment(champion=0, reward=evidence, others={}, sample_ratio=_NOTHING, splits=())


def _first_settled(won: FloatArray, lost: FloatArray, best: FloatArray) -> bool:
    """True if, on a day from the 14th on, the challenger leads and is 95 % sure to lose less than 1 %."""
    for day in range(_UNTIL_DAY - 1, N_DAYS):
        if best[day] > _HALF:
            beliefs = [BetaPosterior(1 + won[day, arm], 1 + lost[day, arm]) for arm in (0, 1)]
            if value_remaining_probability(beliefs, _ONE_PER_CENT, arm=1) <= ALPHA:
                return True
    return False


def _by_day(values: FloatArray) -> FloatArray:
    """Return the values at the end of each day, shape (n_runs, n_days, n_arms)."""
    return np.asarray(values.cumsum(axis=1)[:, _ROWS_BY_DAY - 1])


_LEAST_PROBABILITY: Final = 0.95
_ONE_PER_CENT: Final = 0.01
_HALF: Final = 0.5
