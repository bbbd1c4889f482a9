"""Floors: the share that a declaration guarantees an arm, whatever the outcomes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.experiment import Arm, Experiment
from bandit.inference.data.floors import declared_floors, smallest_floors
from bandit.launch.plan import LaunchPlan, Stage, StageKind
from bandit.launch.shares import launch_shares
from bandit.limits import ArmStanding, Limits, apply_limits
from bandit.metric import Metric
from bandit.policies import DeclaredPolicy, EpsilonGreedy, ThompsonSampling, WeightedSplit, policy_over
from bandit.posteriors import BetaPosterior
from tests.bandit.launch.launches import in_bandit

ARMS = (Arm(id="a"), Arm(id="b"), Arm(id="c"))


def declare(
    policy: DeclaredPolicy | None = None, limits: Limits | None = None, arms: tuple[Arm, ...] = ARMS
) -> Experiment:
    """Return an experiment with three arms."""
    return Experiment(
        name="x",
        arms=arms,
        champion="a",
        policy=policy or ThompsonSampling(),
        metrics=(Metric(name="m"),),
        reward_metric="m",
        limits=limits or Limits(),
        salt=bytes(16),
    )


def test_thompson_sampling_promises_its_minimum_share_and_no_more() -> None:
    """Without limits Thompson sampling has the floor 0; with them each arm has its minimum share."""
    assert declared_floors(declare()) == {"a": 0.0, "b": 0.0, "c": 0.0}
    limits = Limits(minimum_share=0.05, minimum_shares={"a": 0.2})
    assert declared_floors(declare(limits=limits)) == {"a": 0.2, "b": 0.05, "c": 0.05}


def test_epsilon_counts_unless_it_decays() -> None:
    """A constant epsilon guarantees every arm its part; one that decays guarantees nothing."""
    assert declared_floors(declare(EpsilonGreedy(epsilon=0.3))) == pytest.approx(
        {"a": 0.1, "b": 0.1, "c": 0.1}
    )
    decaying = EpsilonGreedy(epsilon=0.3, decay_observations=100.0)
    assert set(declared_floors(declare(decaying)).values()) == {0.0}


def test_a_split_is_floored_by_its_weights_within_the_maximum_share() -> None:
    """A cap reduces the floor of a weight as it reduces the share; otherwise no epoch would ever count."""
    split = WeightedSplit(weights={"a": 8, "b": 1, "c": 1})
    assert declared_floors(declare(split)) == pytest.approx({"a": 0.8, "b": 0.1, "c": 0.1})
    capped = declared_floors(declare(split, Limits(maximum_share=0.6)))
    assert capped == pytest.approx({"a": 0.6, "b": 0.1, "c": 0.1})


def test_arms_out_of_service_have_no_floor() -> None:
    """An arm that is taken out has no floor; with all of them out, no arm has one."""
    arms = (Arm(id="a"), Arm(id="b", is_taken_out=True), Arm(id="c"))
    assert declared_floors(declare(limits=Limits(minimum_share=0.1), arms=arms)) == {"a": 0.1, "c": 0.1}
    assert declared_floors(declare(arms=tuple(Arm(id=x, is_taken_out=True) for x in "abc"))) == {}


def test_the_smallest_floor_of_all_declarations_counts() -> None:
    """Evidence uses the smallest floor ever declared; an arm that was added later has its own."""
    wide, narrow = (declare(limits=Limits(minimum_share=floor), arms=ARMS[:2]) for floor in (0.2, 0.05))
    with_third = declare(limits=Limits(minimum_share=0.1))
    numbers = {"a": 0, "b": 1, "c": 7}
    assert smallest_floors([wide, narrow, with_third], numbers) == {0: 0.05, 1: 0.05, 7: 0.1}


@settings(max_examples=40)
@given(
    weights=st.lists(st.integers(1, 50), min_size=3, max_size=3),
    floors=st.lists(st.floats(0, 0.33), min_size=3, max_size=3),
    maximum=st.floats(0.34, 1),
    policy=st.sampled_from(["thompson", "epsilon", "split"]),
    wins=st.lists(st.integers(0, 50), min_size=3, max_size=3),
)
def test_no_share_is_ever_below_its_floor(
    weights: list[int], floors: list[float], maximum: float, policy: str, wins: list[int]
) -> None:
    """Whatever the outcomes, policy and limits give every arm at least its floor."""
    ids = [arm.id for arm in ARMS]
    declared: dict[str, DeclaredPolicy] = {
        "thompson": ThompsonSampling(),
        "epsilon": EpsilonGreedy(epsilon=0.3),
        "split": WeightedSplit(weights=dict(zip(ids, map(float, weights), strict=True))),
    }
    limits = Limits(
        minimum_shares={arm: min(floor, maximum) for arm, floor in zip(ids, floors, strict=True)},
        maximum_share=maximum,
    )
    experiment = declare(declared[policy], limits)
    beliefs = [BetaPosterior(1 + won, 51 - won) for won in wins]
    raw = policy_over(experiment.policy, tuple(ids)).shares(beliefs, maximize=True, n_observations=150)
    shares = apply_limits(raw, [ArmStanding(id=arm) for arm in ids], limits)
    promised = declared_floors(experiment)
    assert all(share >= promised[arm] - 1e-9 for arm, share in zip(ids, shares, strict=True))


def test_a_launch_promises_its_floors_and_the_reserve_and_no_more() -> None:
    """A fixed share may be below what the policy would be sure to give; the reserve is the champion's."""
    limits = Limits(minimum_share=0.05, minimum_shares={"b": 0.1}, champion_minimum_share=0.3)
    launch = LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),))
    for policy in (ThompsonSampling(), EpsilonGreedy(epsilon=0.5), WeightedSplit(weights={"a": 1, "c": 8})):
        declared = replace(declare(policy, limits), launch=launch)
        assert declared_floors(declared) == {"a": 0.3, "b": 0.1, "c": 0.05}
        assert declared_floors(replace(declared, champion="b")) == {"a": 0.05, "b": 0.3, "c": 0.05}


def test_the_smallest_floor_over_a_promotion_is_that_of_the_challenger() -> None:
    """Before and after a promotion, each arm had at least the smaller of its floors in the bandit stage."""
    limits = Limits(minimum_share=0.05, champion_minimum_share=0.3)
    before = replace(declare(limits=limits), launch=LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),)))
    revisions = [before, replace(before, champion="b")]
    assert smallest_floors(revisions, {"a": 0, "b": 1, "c": 2}) == {0: 0.05, 1: 0.05, 2: 0.05}


def test_the_own_floor_of_the_champion_counts_in_a_launch_if_it_is_higher() -> None:
    """The champion has the larger one of its own floor and the reserve of its role."""
    limits = Limits(minimum_shares={"a": 0.4}, champion_minimum_share=0.3)
    launch = LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),))
    assert declared_floors(replace(declare(limits=limits), launch=launch)) == {"a": 0.4, "b": 0.0, "c": 0.0}


def test_shares_of_a_launch_keep_the_floors_of_its_pool() -> None:
    """What an arm of the bandit stage, and the champion, get is never below the declared floor."""
    launching = in_bandit("b", "c")
    floors = declared_floors(launching.experiment)
    ids = [arm.id for arm in launching.experiment.arms]
    for favourite in range(len(ids)):
        raw = [float(index == favourite) for index in range(len(ids))]
        shares = launch_shares(raw, ids, launching.experiment, launching.launch)
        for arm_id, share in zip(ids, shares, strict=True):
            assert arm_id == "d" or share >= floors[arm_id] - 1e-12
