"""Small declarations, epochs and facts that tests start from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
from bandit.launch.state import Launch
from bandit.limits import Limits
from bandit.metric import Metric, MetricKind
from bandit.policies import DeclaredPolicy, ThompsonSampling

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CLICKS = Metric(name="clicks")
SPEND = Metric(name="spend", kind=MetricKind.REAL, maximum=100.0)
NOTHING = Facts(decisions={}, outcomes={})


def declare(
    name: str = "ranker",
    *,
    arms: Sequence[Arm] | Sequence[str] = ("champion", "challenger"),
    metrics: Sequence[Metric] = (CLICKS, SPEND),
    policy: DeclaredPolicy | None = None,
    limits: Limits | None = None,
    half_life: timedelta | None = None,
    lookback: timedelta | None = None,
) -> Experiment:
    """Return a valid experiment: the first arm is the champion, the first metric steers."""
    declared = tuple(arm if isinstance(arm, Arm) else Arm(id=arm) for arm in arms)
    return Experiment(
        name=name,
        arms=declared,
        champion=declared[0].id,
        metrics=tuple(metrics),
        reward_metric=metrics[0].name,
        policy=policy or ThompsonSampling(),
        limits=limits or Limits(),
        half_life=half_life,
        lookback=lookback,
        salt=bytes(range(16)),
    )


def make_epoch(
    number: int = 1,
    started_at: datetime = START,
    shares: Mapping[int, float] | None = None,
    *,
    experiment: int = 1,
    revision: int = 1,
    nonce: int = 7,
    warming_up: frozenset[int] = frozenset(),
    means: Mapping[int, Mapping[int, float]] | None = None,
) -> Epoch:
    """Return an epoch of the only segment, with the first arm as champion."""
    return Epoch(
        experiment=experiment,
        segment=0,
        number=number,
        nonce=nonce,
        revision=revision,
        started_at=started_at,
        champion=0,
        shares={0: 0.5, 1: 0.5} if shares is None else shares,
        warming_up=warming_up,
        means={} if means is None else means,
    )


def decision_key(epoch: int, arm: int, basis: Basis = Basis.POLICY) -> DecisionKey:
    """Return the key of an arm's decisions in an epoch of experiment 1."""
    return DecisionKey(1, epoch, 0, arm, basis)


def outcome_key(epoch: int, arm: int, basis: Basis = Basis.POLICY, metric: int = 0) -> OutcomeKey:
    """Return the key of an arm's outcomes in an epoch of experiment 1."""
    return OutcomeKey(1, epoch, 0, arm, basis, metric)


def binary_tally(n: int, successes: int) -> Tally:
    """Return the tally of yes/no outcomes that came in time."""
    return Tally(n=n, total=successes, squares=successes)


def stand(
    experiment: Experiment,
    epochs: Sequence[Epoch] = (),
    facts: Facts = NOTHING,
    *,
    now: datetime = START,
    lag: timedelta = timedelta(),
    launch: Launch | None = None,
) -> ExperimentState:
    """Return the state of an experiment whose arms and metrics are numbered in their order."""
    return ExperimentState(
        experiment=experiment,
        arm_numbers={arm.id: number for number, arm in enumerate(experiment.arms)},
        metric_numbers={metric.name: number for number, metric in enumerate(experiment.metrics)},
        epochs=epochs,
        facts=facts,
        lag=lag,
        now=now,
        launch=launch,
    )
