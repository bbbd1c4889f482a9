"""Allocation: sums, symmetry and limits of shares, and when they are worth a new epoch."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.allocation import (
    EARLY_DECISIONS,
    MAX_EPOCH_DECISIONS,
    SMALLEST_EARLY_EPOCH,
    Allocation,
    ExperimentState,
    allocate,
    furthest_move,
    longest_epoch,
    needs_epoch,
)
from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.limits import Limits
from bandit.metric import Direction, Metric, MetricKind
from bandit.policies import DeclaredPolicy, EpsilonGreedy, ThompsonSampling, WeightedSplit
from bandit.posteriors import BetaPosterior
from bandit.posteriors.best_arm import best_arm_probabilities
from tests.bandit.builders import (
    CLICKS,
    HOUR,
    MINUTE,
    NOTHING,
    SECOND,
    START,
    binary_tally,
    decision_key,
    declare,
    make_epoch,
    outcome_key,
    stand,
)

ROUNDING = 1e-9
IDS = ("a", "b", "c")
POLICIES: Sequence[DeclaredPolicy] = (
    ThompsonSampling(),
    EpsilonGreedy(epsilon=0.2),
    EpsilonGreedy(epsilon=0.5, decay_observations=100),
    WeightedSplit(weights={"a": 1.0, "b": 2.0, "c": 3.0}),
)
LIMITS = (
    Limits(),
    Limits(minimum_share=0.05, minimum_shares={"a": 0.2}, maximum_share=0.6),
    Limits(warm_up_decisions=40, warm_up_duration=HOUR),
)

id_to_record = st.fixed_dictionaries(
    {arm_id: st.integers(0, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))) for arm_id in IDS}
)


def stand_with(experiment: Experiment, id_to_counts: Mapping[str, tuple[int, int]]) -> ExperimentState:
    """Return a state half an hour into its first epoch, with outcomes and successes by arm id."""
    decisions: dict[DecisionKey, int] = {}
    outcomes: dict[OutcomeKey, Tally] = {}
    for number, arm in enumerate(experiment.arms):
        n, successes = id_to_counts[arm.id]
        decisions[decision_key(1, number)] = n
        outcomes[outcome_key(1, number)] = binary_tally(n, successes)
    even = {number: 1 / len(experiment.arms) for number in range(len(experiment.arms))}
    facts = Facts(decisions=decisions, outcomes=outcomes)
    return stand(experiment, [make_epoch(1, shares=even)], facts, now=START + 30 * MINUTE)


def shares_by_id(state: ExperimentState) -> dict[str, float]:
    """Return arm id to share."""
    shares = allocate(state).shares
    return {arm_id: shares[number] for arm_id, number in state.arm_numbers.items()}


@settings(max_examples=60)
@given(
    counts=id_to_record,
    policy=st.sampled_from(POLICIES),
    limits=st.sampled_from(LIMITS),
    order=st.permutations(IDS),
    out=st.sets(st.sampled_from(IDS), max_size=2),
    direction=st.sampled_from(Direction),
)
def test_shares_sum_to_one_and_do_not_depend_on_the_order_of_arms(
    counts: Mapping[str, tuple[int, int]],
    policy: DeclaredPolicy,
    limits: Limits,
    order: Sequence[str],
    out: set[str],
    direction: Direction,
) -> None:
    """Shares sum to 1; permuting the arms permutes them; arms taken out have exactly 0."""

    def shares(ids: Sequence[str]) -> dict[str, float]:
        arms = [Arm(id=arm_id, is_taken_out=arm_id in out) for arm_id in ids]
        metric = Metric(name="clicks", direction=direction)
        return shares_by_id(
            stand_with(declare(arms=arms, metrics=[metric], policy=policy, limits=limits), counts)
        )

    original = shares(IDS)
    assert sum(original.values()) == pytest.approx(1, abs=ROUNDING)
    assert shares(order) == pytest.approx(original, abs=ROUNDING)
    assert [original[arm_id] for arm_id in out] == [0.0] * len(out)


def test_thompson_shares_are_the_probabilities_of_being_best() -> None:
    """Without limits the shares are P(best) from prior and facts, and the better arm has more."""
    state = stand_with(declare(arms=("a", "b"), metrics=[CLICKS]), {"a": (100, 10), "b": (100, 20)})
    expected = best_arm_probabilities([BetaPosterior(11, 91), BetaPosterior(21, 81)])
    assert list(allocate(state).shares.values()) == pytest.approx(expected.tolist(), abs=ROUNDING)
    assert expected[1] > 0.9


def test_minimising_turns_the_preference() -> None:
    """For a metric to minimise, the arm with fewer events gets more."""
    fewer = Metric(name="errors", direction=Direction.MINIMIZE)
    state = stand_with(declare(arms=("a", "b"), metrics=[fewer]), {"a": (100, 10), "b": (100, 20)})
    assert allocate(state).shares[0] > 0.9


@pytest.mark.parametrize("policy", POLICIES)
def test_with_every_arm_taken_out_the_champion_answers(policy: DeclaredPolicy) -> None:
    """If every arm is taken out, the champion gets all traffic, since some arm has to answer."""
    arms = [Arm(id=arm_id, is_taken_out=True) for arm_id in IDS]
    assert shares_by_id(stand(declare(arms=arms, policy=policy))) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_a_split_whose_arms_are_all_out_is_even() -> None:
    """With every arm that a static split names taken out, the others share evenly."""
    arms = [Arm(id="a", is_taken_out=True), Arm(id="b"), Arm(id="c")]
    experiment = declare(arms=arms, policy=WeightedSplit(weights={"a": 1.0}))
    assert shares_by_id(stand(experiment)) == {"a": 0.0, "b": 0.5, "c": 0.5}


def test_means_are_those_of_every_metric_at_the_start() -> None:
    """The epoch stores the posterior mean of every arm on every metric, including guardrails."""
    revenue = Metric(name="revenue", kind=MetricKind.REAL, maximum=10.0, is_guardrail=True)
    experiment = declare(arms=("a", "b"), metrics=[CLICKS, revenue])
    facts = Facts(decisions={}, outcomes={outcome_key(1, 0): binary_tally(8, 2)})
    allocation = allocate(stand(experiment, [make_epoch()], facts, now=START + HOUR))
    assert allocation.means == {0: {0: pytest.approx(0.3), 1: 0.5}, 1: {0: 5.0, 1: 5.0}}


def test_an_arm_in_warm_up_has_an_equal_share_and_is_named() -> None:
    """A new arm gets an equal share until its minimum of decisions, and the epoch lists the new arms."""
    limits = Limits(warm_up_decisions=50, warm_up_duration=HOUR)
    experiment = declare(arms=("a", "b", "c"), metrics=[CLICKS], limits=limits)
    allocation = allocate(stand_with(experiment, {"a": (60, 1), "b": (60, 50), "c": (49, 0)}))
    assert allocation.warming_up == frozenset({2})
    assert allocation.shares[2] == pytest.approx(1 / 3)


def test_warm_up_ends_with_its_duration() -> None:
    """An arm that never reports is no longer new once its first epoch is old enough."""
    limits = Limits(warm_up_decisions=50, warm_up_duration=HOUR)
    experiment = declare(arms=("a", "b"), metrics=[CLICKS], limits=limits)
    epochs = [make_epoch(1, shares={0: 1.0}), make_epoch(2, START + HOUR)]
    assert allocate(stand(experiment, epochs, now=START + HOUR)).warming_up == frozenset({1})
    assert allocate(stand(experiment, epochs, now=START + 2 * HOUR)).warming_up == frozenset()


@settings(max_examples=50)
@given(minutes=st.integers(0, 600), step=st.floats(0.01, 1), before=st.floats(0.01, 0.99))
def test_no_share_moves_faster_than_the_step(minutes: int, step: float, before: float) -> None:
    """Since the current epoch began, shares move by at most the step per hour, and they do move."""
    experiment = declare(
        arms=("a", "b"),
        metrics=[CLICKS],
        policy=WeightedSplit(weights={"b": 1.0}),
        limits=Limits(maximum_step_per_hour=step),
    )
    epochs = [make_epoch(1, shares={0: 1.0, 1: 0.0}), make_epoch(2, START, shares={0: before, 1: 1 - before})]
    after = allocate(stand(experiment, epochs, now=START + minutes * MINUTE)).shares
    assert after[0] == pytest.approx(max(before - step * minutes / 60, 0.0), abs=ROUNDING)


def test_a_clock_that_went_back_moves_nothing() -> None:
    """With a step bound, an epoch that began in the future keeps its shares."""
    experiment = declare(arms=("a", "b"), metrics=[CLICKS], limits=Limits(maximum_step_per_hour=0.5))
    epochs = [make_epoch(1, START + HOUR, shares={0: 0.8, 1: 0.2})]
    assert allocate(stand(experiment, epochs, now=START)).shares == pytest.approx({0: 0.8, 1: 0.2})


def test_furthest_move_is_in_log_odds() -> None:
    """A move from .01 to .02 is as far as one from .98 to .99, and farther than one from .5 to .6."""
    small = furthest_move({0: 0.01, 1: 0.99}, {0: 0.02, 1: 0.98})
    assert small == pytest.approx(furthest_move({0: 0.98, 1: 0.02}, {0: 0.99, 1: 0.01}))
    assert small > furthest_move({0: 0.5, 1: 0.5}, {0: 0.6, 1: 0.4})


def test_a_new_arm_has_moved_from_nothing() -> None:
    """An arm that one side lacks has a share of 0 there; all shares below 1e-6 are equal."""
    assert furthest_move({0: 1.0}, {0: 0.5, 1: 0.5}) > 10
    assert furthest_move({0: 1.0, 1: 0.0}, {0: 1 - 1e-7, 1: 1e-7}) == pytest.approx(0, abs=1e-9)


THRESHOLD = 0.2
EXPERIMENT = declare(arms=("a", "b"), metrics=[CLICKS])
EVEN = {0: 0.5, 1: 0.5}


def is_due(
    state: ExperimentState,
    shares: Mapping[int, float] | None = None,
    warming_up: frozenset[int] = frozenset(),
) -> bool:
    """True if these shares are worth a new epoch."""
    allocation = Allocation(shares=EVEN if shares is None else shares, warming_up=warming_up)
    return needs_epoch(state, allocation, THRESHOLD)


@pytest.mark.parametrize(("share", "expected"), [(0.5, False), (0.549, False), (0.551, True), (0.449, True)])
def test_an_epoch_begins_when_log_odds_have_moved_beyond_the_threshold(
    share: float, *, expected: bool
) -> None:
    """A new epoch begins only if a share's log-odds moved by more than the threshold."""
    assert is_due(stand(EXPERIMENT, [make_epoch()], now=START), {0: share, 1: 1 - share}) is expected


def test_an_epoch_begins_when_an_arm_comes_or_goes() -> None:
    """A new epoch begins if an arm joins, leaves or is taken out."""
    now = stand(EXPERIMENT, [make_epoch()], now=START)
    assert is_due(now, {0: 1.0, 1: 0.0})
    assert is_due(now, {0: 0.45, 1: 0.45, 2: 0.1})
    assert not is_due(stand(EXPERIMENT, [make_epoch(shares={0: 1.0, 1: 0.0})], now=START), {0: 1.0, 1: 0.0})


def test_an_epoch_begins_when_a_warm_up_begins_or_ends() -> None:
    """A new epoch begins if the set of new arms changes, since answers take their reason from the epoch."""
    assert is_due(stand(EXPERIMENT, [make_epoch()], now=START), warming_up=frozenset({1}))
    in_warm_up = stand(EXPERIMENT, [make_epoch(warming_up=frozenset({1}))], now=START)
    assert is_due(in_warm_up)
    assert not is_due(in_warm_up, warming_up=frozenset({1}))


@pytest.mark.parametrize(("n_decisions", "expected"), [(0, False), (1, True)])
def test_an_old_epoch_ends_only_if_it_has_decisions(n_decisions: int, *, expected: bool) -> None:
    """An epoch without decisions stays forever; with one it ends when it is too old."""
    facts = Facts(decisions={decision_key(1, 0): n_decisions} if n_decisions else {}, outcomes={})
    assert is_due(stand(EXPERIMENT, [make_epoch()], facts, now=START + 8000 * HOUR)) is expected


def test_decisions_of_earlier_epochs_do_not_age_this_one() -> None:
    """An epoch becomes too old only if it has decisions of its own."""
    facts = Facts(decisions={decision_key(1, 0): 100}, outcomes={})
    epochs = [make_epoch(1), make_epoch(2, START + HOUR)]
    assert not is_due(stand(EXPERIMENT, epochs, facts, now=START + 8000 * HOUR))


def test_an_epoch_ends_at_four_million_decisions() -> None:
    """An epoch ends before its sums of squares could overflow; decisions of every basis count."""
    windowed = declare(arms=("a", "b"), metrics=[Metric(name="x", window=HOUR)])

    def due_at(n: int) -> bool:
        half = n // 2
        counts = {decision_key(1, 0): half, decision_key(1, 1, Basis.FALLBACK): n - half}
        return is_due(stand(windowed, [make_epoch()], Facts(decisions=counts, outcomes={}), now=START))

    assert MAX_EPOCH_DECISIONS == 4_000_000
    assert (due_at(3_999_999), due_at(4_000_000)) == (False, True)


@pytest.mark.parametrize("policy", [ThompsonSampling(), WeightedSplit(weights={"a": 1.0, "b": 1.0})])
def test_early_epochs_grow_by_decisions(policy: DeclaredPolicy) -> None:
    """The first 100,000 decisions make 34 epochs, of 32 or a quarter of those before; later ones none."""
    windowed = declare(arms=("a", "b"), metrics=[Metric(name="x", window=HOUR)], policy=policy)
    epochs, counts, n_before = [make_epoch(1)], dict[DecisionKey, int](), 0
    sizes: list[int] = []

    def is_due_at(n: int) -> bool:
        now = counts | {decision_key(len(epochs), 0): n // 2, decision_key(len(epochs), 1): n - n // 2}
        state = stand(windowed, epochs, Facts(decisions=now, outcomes={}), now=START)
        return needs_epoch(state, allocate(state), THRESHOLD)

    while n_before < EARLY_DECISIONS:
        size = max(SMALLEST_EARLY_EPOCH, math.ceil(n_before / 4))
        assert not is_due_at(min(size, EARLY_DECISIONS - n_before) - 1)
        assert is_due_at(size) is (n_before + size < EARLY_DECISIONS)
        counts |= {decision_key(len(epochs), 0): size}
        epochs.append(make_epoch(len(epochs) + 1))
        sizes.append(size)
        n_before += size
    assert (sizes[:6], len(sizes)) == ([32, 32, 32, 32, 32, 40], 34)
    assert not is_due_at(MAX_EPOCH_DECISIONS - 1)


def test_only_drawn_decisions_make_early_epochs_grow() -> None:
    """Restricted and fallback decisions are no evidence: they neither end an early epoch nor make it late."""
    others = {decision_key(1, 0, basis): 200_000 for basis in (Basis.RESTRICTED, Basis.FALLBACK)}
    for n_drawn, expected in ((31, False), (32, True)):
        facts = Facts(decisions={**others, decision_key(1, 1): n_drawn}, outcomes={})
        assert is_due(stand(EXPERIMENT, [make_epoch()], facts, now=START)) is expected


@pytest.mark.parametrize(
    ("window", "half_life", "lifetime", "expected"),
    [
        (None, None, 2000 * HOUR, HOUR),
        (None, None, SECOND, 10 * SECOND),
        (None, 50 * SECOND, 2000 * HOUR, SECOND),
        (4 * SECOND, None, HOUR, 2 * SECOND - 0.2 * SECOND),
        (None, None, HOUR, timedelta(seconds=10)),
        (4 * HOUR, None, HOUR, HOUR),
        (4 * HOUR, None, 20_000 * HOUR, 10 * HOUR),
        (4 * HOUR, 50 * MINUTE, 20_000 * HOUR, MINUTE),
        (None, 5000 * HOUR, 2000 * HOUR, HOUR),
    ],
)
def test_too_old_is_a_part_of_window_lifetime_and_half_life(
    window: timedelta | None, half_life: timedelta | None, lifetime: timedelta, expected: timedelta
) -> None:
    """An epoch may last max(window / 4, or 10 s without one, lifetime / 2000), at most half-life / 50."""
    experiment = declare(metrics=[Metric(name="x", window=window)], half_life=half_life)
    epochs = [make_epoch(1), make_epoch(2, START + SECOND)]
    assert longest_epoch(stand(experiment, epochs, NOTHING, now=START + lifetime)) == expected


def test_the_fold_of_an_allocation_uses_half_life_and_lookback() -> None:
    """Allocation folds with the declared half-life and lookback: forgotten successes do not steer."""
    old = {"a": (100, 90), "b": (100, 10)}
    forgetting = declare(arms=("a", "b"), metrics=[CLICKS], lookback=10 * MINUTE)
    assert list(allocate(stand_with(forgetting, old)).shares.values()) == pytest.approx([0.5, 0.5])
    fading = declare(arms=("a", "b"), metrics=[CLICKS], half_life=SECOND)
    assert list(allocate(stand_with(fading, old)).shares.values()) == pytest.approx([0.5, 0.5], abs=1e-3)
    assert allocate(stand_with(EXPERIMENT, old)).shares[0] > 0.999


def test_epsilon_falls_with_the_observations_of_all_arms() -> None:
    """A decaying epsilon counts the observations of every arm, including those taken out."""
    arms = [Arm(id="a"), Arm(id="b"), Arm(id="c", is_taken_out=True)]
    policy = EpsilonGreedy(epsilon=0.4, decay_observations=100)
    experiment = declare(arms=arms, metrics=[CLICKS], policy=policy)
    shares = shares_by_id(stand_with(experiment, {"a": (50, 40), "b": (30, 1), "c": (20, 0)}))
    assert shares == pytest.approx({"a": 0.9, "b": 0.1, "c": 0.0})


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_numbers_and_not_places_carry_the_facts(order: tuple[int, ...]) -> None:
    """Facts belong to arm numbers: an arm keeps its facts wherever the declaration lists it."""
    arms = [Arm(id=IDS[index]) for index in order]
    experiment = declare(arms=arms, metrics=[CLICKS])
    state = ExperimentState(
        experiment=experiment,
        arm_numbers={"a": 7, "b": 2, "c": 5},
        metric_numbers={"clicks": 4},
        epochs=[make_epoch(1, shares={7: 1.0})],
        facts=Facts(decisions={}, outcomes={outcome_key(1, 2, metric=4): binary_tally(50, 50)}),
        lag=timedelta(),
        now=START + HOUR,
    )
    shares = allocate(state).shares
    assert set(shares) == {7, 2, 5}
    assert shares[2] > 0.9
