"""Small experiment states for whole assessments: epochs, facts and a declaration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
from bandit.metric import Direction, Metric

STARTED_AT = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
CLICK = Metric(name="click", window=HOUR, default_value=0.0)
ERROR = Metric(name="error", window=HOUR, default_value=0.0, is_guardrail=True, direction=Direction.MINIMIZE)
NUMBERS = {"champion": 0, "first": 1, "second": 2, "third": 3, "fourth": 4}
FLOORS = {0: 0.2, 1: 0.05, 2: 0.05, 3: 0.05, 4: 0.05}


@dataclass(frozen=True, slots=True)
class Stretch:
    """One epoch: shares by arm number, and (decisions, clicks, errors) by arm number.

    Attributes:
        shares: Shares of the arms.
        seen: Counts of `policy` decisions and of outcomes that came in time.
        means: Posterior means of both metrics.
    """

    shares: Mapping[int, float]
    seen: Mapping[int, tuple[int, int, int]]
    means: Mapping[int, float] = field(default_factory=dict)


def stand(
    stretches: Sequence[Stretch],
    *,
    n_arms: int = 2,
    metrics: tuple[Metric, ...] = (CLICK, ERROR),
    length: timedelta = HOUR,
    extra: Facts | None = None,
) -> ExperimentState:
    """Return the state after these epochs, all of the same length, and a current one without decisions.

    At `now` all epochs but the current one have closed.
    """
    ids = list(NUMBERS)[:n_arms]
    decisions = dict(extra.decisions) if extra else {}
    outcomes = dict(extra.outcomes) if extra else {}
    for number, stretch in enumerate(stretches, 1):
        for arm, (n, *events) in stretch.seen.items():
            decisions[DecisionKey(1, number, 0, arm, Basis.POLICY)] = n
            for metric, count in enumerate(events):
                tally = Tally(n=count, total=count, squares=count)
                outcomes[OutcomeKey(1, number, 0, arm, Basis.POLICY, metric)] = tally
    last = stretches[-1:] or [Stretch({}, {})]
    return ExperimentState(
        experiment=Experiment(
            name="x",
            arms=tuple(Arm(id=arm_id) for arm_id in ids),
            champion="champion",
            metrics=metrics,
            reward_metric=metrics[0].name,
            salt=bytes(16),
        ),
        arm_numbers=NUMBERS,
        metric_numbers={metric.name: number for number, metric in enumerate(metrics)},
        epochs=[_epoch(row, stretch, length) for row, stretch in enumerate([*stretches, *last])]
        if stretches
        else [],
        facts=Facts(decisions=decisions, outcomes=outcomes),
        lag=timedelta(),
        now=STARTED_AT + len(stretches) * length + max(metric.window or HOUR for metric in metrics),
    )


def even(
    *seen: Sequence[tuple[int, int, int]],
    shares: Sequence[float] | None = None,
) -> list[Stretch]:
    """Return epochs of even (or these) shares; each argument has (decisions, clicks, errors) by arm."""
    return [
        Stretch(dict(enumerate(shares or [1 / len(row)] * len(row))), dict(enumerate(row))) for row in seen
    ]


def at(state: ExperimentState, now: datetime) -> ExperimentState:
    """Return the same state at another time."""
    return replace(state, now=now)


def _epoch(row: int, stretch: Stretch, length: timedelta) -> Epoch:
    return Epoch(
        experiment=1,
        segment=0,
        number=row + 1,
        nonce=0,
        revision=1,
        started_at=STARTED_AT + row * length,
        champion=0,
        shares=stretch.shares,
        means={0: stretch.means, 1: stretch.means},
    )
