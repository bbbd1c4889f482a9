"""Allocation: from facts to the next epoch's shares, and whether they are worth a new epoch."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from bandit.decision_id import Basis
from bandit.experiment import Experiment
from bandit.facts import Epoch, Facts, starts_of
from bandit.facts.fold import ArmObservations, Weighting, fold_facts, fold_units
from bandit.facts.units import NO_STEERING, SteeringFacts
from bandit.launch.shares import demand_of, launch_shares
from bandit.launch.state import Launch
from bandit.limits import ArmStanding, apply_limits
from bandit.metric import Direction, Metric
from bandit.policies import policy_over
from bandit.posteriors import Posterior
from bandit.posteriors.moments import OutcomeMoments

MAX_EPOCH_DECISIONS: Final = 4_000_000
"""An epoch ends at this many decisions, so that its sums of counts fit in 64 bits, which makes folds fast.
Larger sums, as in a paused experiment, whose epoch never ends, are exact too."""

EARLY_DECISIONS: Final = 100_000
"""Below this many policy decisions, epochs also end by their number of decisions."""

SMALLEST_EARLY_EPOCH: Final = 32
"""The fewest policy decisions that end an early epoch: evidence takes no centre from fewer."""

EARLY_GROWTH: Final = 0.25
"""An early epoch ends at this part of the policy decisions before it. A test takes its centre from earlier
epochs, so that it may not stand still while decisions come in; growing by a part makes that 34 epochs by
`EARLY_DECISIONS`, once in an experiment's life."""

NOTHING_TAKEN: Final[Mapping[int, OutcomeMoments]] = {}

_SMALLEST_SHARE: Final = 1e-6
"""Smaller shares count as this one, so that changes of their log-odds do not cause epochs."""

_LIFETIME_PARTS: Final = 2000
_HALF_LIFE_PARTS: Final = 50
_WINDOW_PARTS: Final = 4
_SHORTEST_WITHOUT_WINDOW: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The shares that follow from the facts.

    Attributes:
        shares: Arm number to share; sums to 1 within 1e-9.
        warming_up: Numbers of the arms whose share is set by their warm-up.
        means: Metric number to arm number to posterior mean.
        shadows: Number of each arm in shadow to the part of the champion's decisions that it sees.
    """

    shares: Mapping[int, float]
    warming_up: frozenset[int] = frozenset()
    means: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    shadows: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExperimentState:
    """An experiment, its epochs and facts, and the time: everything that shares depend on.

    Attributes:
        experiment: The declared experiment.
        arm_numbers: Arm id to number, for every arm that the experiment ever had.
        metric_numbers: Metric name to number, for every metric that the experiment ever had.
        epochs: The segment's epochs, in order; empty before the first.
        facts: What was counted.
        lag: How long a replica may continue to use an epoch after its end.
        now: The current time.
        steering: Metric number to what units steer with, where units are counted; None where decisions are.
        launch: Where each challenger is in its launch; None without one.
        taken_priors: Arm id to metric name to the outcomes of another arm, discounted, that the arm's belief
            starts from beside the metric's prior.
    """

    experiment: Experiment
    arm_numbers: Mapping[str, int]
    metric_numbers: Mapping[str, int]
    epochs: Sequence[Epoch]
    facts: Facts
    lag: timedelta
    now: datetime
    steering: Mapping[int, SteeringFacts] | None = None
    launch: Launch | None = None
    taken_priors: Mapping[str, Mapping[str, OutcomeMoments]] = field(default_factory=dict)

    @cached_property
    def numbers(self) -> list[int]:
        """The numbers of the declared arms, in their order."""
        return [self.arm_numbers[arm.id] for arm in self.experiment.arms]

    @cached_property
    def arms(self) -> list[ArmStanding]:
        """The state of each declared arm for the limits, in their order."""
        return [
            ArmStanding(
                id=arm.id,
                eligible=not arm.is_taken_out and (self.launch is None or self.launch.is_in_service(arm.id)),
                decisions=self.decisions_by_arm[number],
                age=self.age_of(number),
            )
            for arm, number in zip(self.experiment.arms, self.numbers, strict=True)
        ]

    @property
    def weighting(self) -> Weighting:
        """How the experiment weights its epochs."""
        declared = self.experiment
        return Weighting(half_life=declared.half_life, lookback=declared.lookback, lag=self.lag)

    def observations(self, metric: Metric, arms: Iterable[int] | None = None) -> dict[int, ArmObservations]:
        """Return arm number to observations of a metric, for `arms` or, by default, the declared arms."""
        if arms is None:
            arms = self.numbers
        number = self.metric_numbers[metric.name]
        numbered, weighting = (number, metric), self.weighting
        if self.steering is None:
            return fold_facts(self.facts, self.epochs, numbered, arms, weighting=weighting, now=self.now)
        own = self.steering.get(number, NO_STEERING)
        return fold_units(own, self.facts, self.epochs, numbered, arms, weighting=weighting, now=self.now)

    def beliefs(self, metric: Metric, observations: Mapping[int, ArmObservations]) -> dict[int, Posterior]:
        """Return arm number to the posterior of its mean on a metric: prior, what was taken, observations."""
        taken = {
            self.arm_numbers[arm_id]: of_metric[metric.name]
            for arm_id, of_metric in self.taken_priors.items()
            if metric.name in of_metric
        }
        return posteriors_from(metric, observations, taken)

    @cached_property
    def decisions_by_arm(self) -> Counter[int]:
        """Arm number to the number of decisions so far in which it answered; shadow decisions are none."""
        counts = Counter[int]()
        for (arm, basis), count in self.facts.count_decisions().items():
            if basis is not Basis.SHADOW:
                counts[arm] += count
        return counts

    @cached_property
    def n_decisions_in_force(self) -> int:
        """The number of decisions in the current epoch so far, without shadow decisions."""
        columns = self.facts.decision_columns
        cells = columns.cells
        is_current = (cells.epoch == self.epochs[-1].number) & (cells.basis != Basis.SHADOW)
        return int(columns.counts[is_current].sum())

    @cached_property
    def decisions_to_growth(self) -> float:
        """How many more policy decisions end the current epoch, 0 if it has them; infinite if none do.

        None do once there are `EARLY_DECISIONS`.
        """
        columns, current = self.facts.decision_columns, self.epochs[-1]
        cells = columns.cells
        is_drawn = (cells.basis == Basis.POLICY) & (cells.segment == current.segment)
        n_drawn = int(columns.counts[is_drawn].sum())
        if n_drawn >= EARLY_DECISIONS:
            return math.inf
        n_current = int(columns.counts[is_drawn & (cells.epoch == current.number)].sum())
        needed = max(SMALLEST_EARLY_EPOCH, math.ceil((n_drawn - n_current) * EARLY_GROWTH))
        return max(needed - n_current, 0)

    def age_of(self, arm: int) -> timedelta:
        """Return the time since the arm's first epoch; zero without a warm-up duration."""
        if self.experiment.limits.warm_up_duration is None:
            return timedelta()
        return self.now - self.first_seen_at.get(arm, self.now)

    @cached_property
    def first_seen_at(self) -> Mapping[int, datetime]:
        """Arm number to the start of its first epoch, for arms that have had one."""
        starts = zip(reversed(self.epochs), reversed(starts_of(self.epochs)), strict=True)
        return {arm: started_at for epoch, started_at in starts for arm in epoch.shares}


def allocate(state: ExperimentState) -> Allocation:
    """Return the shares that follow from the facts, within the limits.

    If every arm is taken out, the champion gets all traffic, since some arm has to answer.
    """
    experiment = state.experiment
    if not any(arm.eligible for arm in state.arms):
        return Allocation(shares=_all_to(state.arm_numbers[experiment.champion], state))
    observations = {metric.name: state.observations(metric) for metric in experiment.metrics}
    beliefs = {metric.name: state.beliefs(metric, observations[metric.name]) for metric in experiment.metrics}
    return Allocation(
        shares=_limited_shares(state, observations[experiment.reward_metric]),
        warming_up=frozenset(
            number
            for number, arm in zip(state.numbers, state.arms, strict=True)
            if arm.eligible and experiment.limits.is_new(arm)
        ),
        means={
            state.metric_numbers[name]: {arm: belief.mean for arm, belief in of_arm.items()}
            for name, of_arm in beliefs.items()
        },
        shadows=_samples(state),
    )


def _samples(state: ExperimentState) -> dict[int, float]:
    """Return the number of each arm in shadow, unless it is taken out, to the part that it sees."""
    samples = {} if state.launch is None else state.launch.samples
    is_declared = {arm.id for arm in state.experiment.arms if not arm.is_taken_out}
    return {state.arm_numbers[arm_id]: sample for arm_id, sample in samples.items() if arm_id in is_declared}


def needs_epoch(state: ExperimentState, allocation: Allocation, threshold: float) -> bool:
    """True if the allocation is worth a new epoch.

    It is if some share's log-odds have moved by more than `threshold` since the current epoch, if arms came,
    went, or changed their warm-up or what they see in shadow, if that epoch has the decisions that end an
    early one, or if it has any and is too old or too full. An epoch that starts in the future is too old even
    without decisions: until it is capped, no earlier epoch ends.
    """
    current = state.epochs[-1]
    if current.is_ahead(state.now):
        return True
    if {a for a, s in allocation.shares.items() if s > 0} != {a for a, s in current.shares.items() if s > 0}:
        return True
    if allocation.warming_up != current.warming_up or allocation.shadows != current.shadows:
        return True
    if furthest_move(current.shares, allocation.shares) > threshold:
        return True
    if state.decisions_to_growth == 0:
        return True
    n_decisions = state.n_decisions_in_force
    return n_decisions >= MAX_EPOCH_DECISIONS or (
        n_decisions > 0 and state.now - current.started_at >= longest_epoch(state)
    )


def furthest_move(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Return the largest change of any share, in log-odds; shares are clamped to [1e-6, 1 - 1e-6].

    >>> round(furthest_move({0: 0.5, 1: 0.5}, {0: 0.6, 1: 0.4}), 4)
    0.4055
    """
    arms = before.keys() | after.keys()
    return max(abs(_log_odds(after.get(arm, 0.0)) - _log_odds(before.get(arm, 0.0))) for arm in arms)


def longest_epoch(state: ExperimentState) -> timedelta:
    """Return how old an epoch with decisions may grow: max(window / 4, lifetime / 2000) or half-life / 50.

    The smaller of the two applies. Without a window, ten seconds replace window / 4: nothing waits for the
    epoch to close.
    """
    experiment = state.experiment
    lifetime = state.now - starts_of(state.epochs)[0]
    window = experiment.metric(experiment.reward_metric).window
    shortest = _SHORTEST_WITHOUT_WINDOW if window is None else window / _WINDOW_PARTS
    longest = max(shortest, lifetime / _LIFETIME_PARTS)
    if experiment.half_life is not None:
        longest = min(longest, experiment.half_life / _HALF_LIFE_PARTS)
    return longest


def _limited_shares(state: ExperimentState, observations: Mapping[int, ArmObservations]) -> dict[int, float]:
    """Return arm number to the policy's share within the limits, given the current shares."""
    current = state.epochs[-1] if state.epochs else None
    previous = None if current is None else [current.shares.get(number, 0.0) for number in state.numbers]
    elapsed = timedelta() if current is None else max(state.now - current.started_at, timedelta())
    raw = _policy_shares(state, observations)
    if state.launch is None:
        shares = apply_limits(raw, state.arms, state.experiment.limits, previous=previous, elapsed=elapsed)
    else:
        arm_ids = [arm.id for arm in state.arms]
        shares = launch_shares(
            raw, arm_ids, state.experiment, state.launch, previous=previous, elapsed=elapsed
        )
    return dict(zip(state.numbers, shares.tolist(), strict=True))


def _policy_shares(state: ExperimentState, observations: Mapping[int, ArmObservations]) -> list[float]:
    """Return the policy's shares of the arms that it decides on, 0 for others, in the order of declaration.

    These are the arms in service; in a launch the champion and the arms of the bandit stage.
    """
    experiment = state.experiment
    metric = experiment.metric(experiment.reward_metric)
    beliefs = state.beliefs(metric, observations)
    pool = None if state.launch is None else demand_of(experiment, state.launch).floors
    decided = {
        arm.id: number
        for arm, number in zip(state.arms, state.numbers, strict=True)
        if (arm.eligible if pool is None else arm.id in pool)
    }
    shares = policy_over(experiment.policy, tuple(decided)).shares(
        [beliefs[number] for number in decided.values()],
        maximize=metric.direction is Direction.MAXIMIZE,
        n_observations=sum(seen.sums.n for seen in observations.values()),
    )
    by_number = dict(zip(decided.values(), shares.tolist(), strict=True))
    return [by_number.get(number, 0.0) for number in state.numbers]


def _all_to(champion: int, state: ExperimentState) -> dict[int, float]:
    return {number: 1.0 if number == champion else 0.0 for number in state.numbers}


def _log_odds(share: float) -> float:
    bounded = min(max(share, _SMALLEST_SHARE), 1 - _SMALLEST_SHARE)
    return math.log(bounded / (1 - bounded))


def posteriors_from(
    metric: Metric,
    observations: Mapping[int, ArmObservations],
    taken: Mapping[int, OutcomeMoments] = NOTHING_TAKEN,
) -> dict[int, Posterior]:
    """Return arm number to the posterior of its mean.

    Args:
        metric: The metric; its prior comes first.
        observations: Arm number to its observations.
        taken: Arm number to the outcomes of another arm, discounted, that its belief starts from.
    """
    prior = metric.effective_prior
    return {
        arm: prior.update(taken[arm].merge(seen.sums) if arm in taken else seen.sums)
        for arm, seen in observations.items()
    }
