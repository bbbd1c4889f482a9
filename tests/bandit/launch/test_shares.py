"""Shares of a launch: fixed shares are exact, floors and reserve hold, and the policy divides the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bandit.allocation import allocate
from bandit.experiment import Arm, Experiment
from bandit.launch.launching import Launching
from bandit.launch.moves import ended, held, holdback_ended, promoted, rolled_back
from bandit.launch.plan import Holdback, Stage, StageKind
from bandit.launch.shares import demand_of, launch_shares, reserve_of
from bandit.launch.state import ArmLaunch, ArmState, Launch
from bandit.limits import Limits
from bandit.policies import DeclaredPolicy, EpsilonGreedy, ThompsonSampling, WeightedSplit
from tests.bandit.builders import HOUR, START, stand
from tests.bandit.launch.launches import (
    BANDIT,
    CANARY,
    LIMITS,
    PLAN,
    RAMP,
    declare_launch,
    in_bandit,
    occasion,
    underway,
    waiting,
)

ROUNDING = 1e-9
IDS = ("a", "b", "c", "d")
EVEN = (1.0, 1.0, 1.0, 1.0)

parts = st.floats(0, 1)
raw_shares = st.lists(parts, min_size=4, max_size=4)


def shares_of(
    launching: Launching,
    raw: Sequence[float] = EVEN,
    previous: Mapping[str, float] | None = None,
    elapsed: timedelta = HOUR,
) -> dict[str, float]:
    """Return arm id to share, given the policy's shares in the order of declaration."""
    ids = [arm.id for arm in launching.experiment.arms]
    before = None if previous is None else [previous.get(arm_id, 0.0) for arm_id in ids]
    shares = launch_shares(raw, ids, launching.experiment, launching.launch, previous=before, elapsed=elapsed)
    assert abs(shares.sum() - 1) <= ROUNDING
    return dict(zip(ids, shares.tolist(), strict=True))


@st.composite
def launchings(draw: st.DrawFn) -> Launching:
    """Launches in which every arm is anywhere, and what they ask for fits."""
    ramp = Stage(kind=StageKind.RAMP, shares=(draw(st.floats(0.01, 0.5)), 0.6))
    stages = (CANARY, ramp, BANDIT)
    arms: dict[str, ArmLaunch] = {}
    states = st.sampled_from(
        [ArmState.WAITING, ArmState.CANARY, ArmState.RAMP, ArmState.BANDIT, ArmState.RETIRED]
    )
    for arm_id in IDS[1:]:
        state = draw(states)
        step = {ArmState.CANARY: 0, ArmState.RAMP: 1, ArmState.BANDIT: 3}.get(state, 0)
        arms[arm_id] = ArmLaunch(state=state, step=step, entered_at=START, revision=1, stages=stages)
    champion, former, holdback = "a", None, None
    if draw(st.booleans()):
        champion, former, holdback = "b", "a", Holdback(share=draw(st.floats(0.01, 0.5)))
        arms["b"] = replace(arms["b"], state=ArmState.PROMOTED)
        arms["a"] = ArmLaunch(state=ArmState.HOLDBACK, entered_at=START, revision=1)
    limits = Limits(
        minimum_share=draw(st.floats(0, 0.2)),
        minimum_shares=draw(st.dictionaries(st.sampled_from(IDS), st.floats(0, 0.3))),
        champion_minimum_share=draw(st.floats(0, 0.5)),
        maximum_share=draw(st.floats(0.3, 1)),
    )
    launching = Launching(
        experiment=replace(declare_launch(limits=limits), champion=champion),
        launch=Launch(declared_champion="a", arms=arms, former_champion=former, holdback=holdback),
    )
    assume(demand_of(launching.experiment, launching.launch).has_room)
    return launching


@given(launching=launchings(), raw=raw_shares)
def test_what_was_declared_is_served(launching: Launching, raw: list[float]) -> None:
    """Fixed shares are exact, arms out of service have nothing, floors and reserve hold, caps too."""
    shares, launch = shares_of(launching, raw), launching.launch
    demand, limits = demand_of(launching.experiment, launch), launching.experiment.limits
    for arm_id, share in shares.items():
        if arm_id in demand.fixed:
            assert share == pytest.approx(demand.fixed[arm_id], abs=1e-12)
        elif arm_id in demand.floors:
            assert share >= demand.floors[arm_id] * (1 - 1e-4) - ROUNDING  # floors may miss 1 by FORGIVEN
        else:
            assert not launch.is_in_service(arm_id)
            assert share == 0
        if arm_id in demand.floors and arm_id != launching.experiment.champion:
            assert share <= max(limits.maximum_share, demand.floors[arm_id]) + ROUNDING
    reserve = reserve_of(limits, launching.experiment.champion)
    assert shares[launching.experiment.champion] >= reserve * (1 - 1e-4) - ROUNDING


@given(launching=launchings(), raw=raw_shares, order=st.sampled_from(list(permutations(range(4)))))
def test_permuting_arms_permutes_shares(
    launching: Launching, raw: list[float], order: tuple[int, ...]
) -> None:
    """The order of declaration decides nothing."""
    experiment = launching.experiment
    mixed = replace(experiment, arms=tuple(experiment.arms[index] for index in order))
    before = shares_of(launching, raw)
    after = shares_of(replace(launching, experiment=mixed), [raw[index] for index in order])
    assert after == pytest.approx(before, abs=ROUNDING)


@given(launching=launchings(), raw=raw_shares, others=raw_shares)
def test_the_policy_of_arms_outside_the_pool_is_ignored(
    launching: Launching, raw: list[float], others: list[float]
) -> None:
    """What a policy would give an arm with a fixed share, or one out of service, changes nobody's share."""
    pool = demand_of(launching.experiment, launching.launch).floors
    mixed = [own if arm_id in pool else other for arm_id, own, other in zip(IDS, raw, others, strict=True)]
    assert shares_of(launching, mixed) == shares_of(launching, raw)


def test_before_the_bandit_the_champion_has_the_rest() -> None:
    """Waiting arms have nothing, canaries their share, and the champion the rest, whatever a policy says."""
    assert shares_of(waiting()) == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
    assert shares_of(underway(), [0.0, 1.0, 0.0, 0.0]) == pytest.approx(
        {"a": 0.97, "b": 0.01, "c": 0.01, "d": 0.01}
    )


def test_the_policy_divides_what_fixed_shares_and_floors_leave() -> None:
    """An arm of the pool gets f + (1 - F - sum f) p."""
    shares = shares_of(in_bandit("b"), [0.25, 0.75, 0.0, 0.0])
    left = 1 - 0.02 - 0.2 - 0.02
    assert shares == pytest.approx({"a": 0.2 + 0.25 * left, "b": 0.02 + 0.75 * left, "c": 0.01, "d": 0.01})


def test_a_policy_that_gives_the_pool_nothing_is_even() -> None:
    """A split that names no arm of the pool divides the rest evenly instead of failing."""
    shares = shares_of(in_bandit("b"), [0.0, 0.0, 0.5, 0.5])
    left = 1 - 0.02 - 0.2 - 0.02
    assert shares == pytest.approx({"a": 0.2 + left / 2, "b": 0.02 + left / 2, "c": 0.01, "d": 0.01})


def test_the_reserve_follows_the_role() -> None:
    """After a promotion the winner has the reserve, and the former champion exactly the holdback."""
    before = in_bandit("b")
    assert shares_of(before, [0.0, 1.0, 0.0, 0.0])["a"] == pytest.approx(0.2)
    after = promoted(before, "b", occasion(3))
    assert shares_of(after, [1.0, 0.0, 0.0, 0.0]) == pytest.approx(
        {"a": 0.05, "b": 0.93, "c": 0.01, "d": 0.01}
    )
    over = holdback_ended(after, occasion(4))
    assert shares_of(over, [1.0, 0.0, 0.0, 0.0]) == pytest.approx({"a": 0.0, "b": 0.98, "c": 0.01, "d": 0.01})
    back = rolled_back(after, "b", occasion(4))
    assert shares_of(back) == pytest.approx({"a": 0.98, "b": 0.0, "c": 0.01, "d": 0.01})


def test_the_champions_own_floor_counts_if_it_is_higher() -> None:
    """A floor under the champion's id and the reserve of its role: the larger one holds."""
    limits = Limits(champion_minimum_share=0.2, minimum_shares={"a": 0.5})
    assert reserve_of(limits, "a") == 0.5
    assert reserve_of(limits, "b") == 0.2


def test_the_maximum_share_binds_challengers_alone() -> None:
    """What a cap cuts goes to arms below theirs, and the champion has none."""
    limits = replace(LIMITS, maximum_share=0.3)
    launching = in_bandit("b", experiment=declare_launch(limits=limits))
    assert shares_of(launching, [0.0, 1.0, 0.0, 0.0]) == pytest.approx(
        {"a": 0.68, "b": 0.3, "c": 0.01, "d": 0.01}
    )
    assert shares_of(launching, [1.0, 0.0, 0.0, 0.0])["a"] == pytest.approx(0.96)
    both = in_bandit("b", "c", experiment=declare_launch(limits=limits))
    assert shares_of(both, [0.0, 1.0, 1.0, 0.0]) == pytest.approx({"a": 0.39, "b": 0.3, "c": 0.3, "d": 0.01})


def test_a_demand_beyond_one_scales_floors_and_not_fixed_shares() -> None:
    """If a state asks for more than there is, fixed shares come first and shares still sum to 1."""
    launching = in_bandit("b", experiment=declare_launch(plan=replace(PLAN, stages=(RAMP, BANDIT))))
    greedy = replace(launching.experiment, limits=Limits(champion_minimum_share=0.9, minimum_share=0.9))
    shares = shares_of(replace(launching, experiment=greedy))
    assert shares == pytest.approx({"a": 0.45, "b": 0.45, "c": 0.05, "d": 0.05})
    demand = demand_of(greedy, launching.launch)
    assert not demand.has_room
    assert str(demand) == "c 0.05, d 0.05, a at least 0.9, b at least 0.9: together 1.9, more than 1"


def test_an_order_to_hold_changes_no_share() -> None:
    """An arm that is held keeps its traffic."""
    launching = in_bandit("b")
    assert shares_of(held(launching, "b", occasion(3))) == shares_of(launching)


STEPPED = declare_launch(limits=replace(LIMITS, maximum_step_per_hour=0.1))


def test_no_share_moves_faster_than_the_maximum_step() -> None:
    """A promotion takes as long as the step allows; what has arrived stays exact."""
    before = in_bandit("b", experiment=STEPPED)
    previous = {"a": 0.5, "b": 0.48, "c": 0.01, "d": 0.01}
    after = promoted(before, "b", occasion(3))
    half = shares_of(after, previous=previous, elapsed=HOUR / 2)
    assert half == pytest.approx({"a": 0.45, "b": 0.53, "c": 0.01, "d": 0.01})
    assert shares_of(after, previous=previous, elapsed=timedelta()) == pytest.approx(previous)
    assert shares_of(after, previous=previous, elapsed=5 * HOUR) == pytest.approx(
        {"a": 0.05, "b": 0.93, "c": 0.01, "d": 0.01}
    )


def test_an_arm_that_leaves_drops_to_nothing_at_once() -> None:
    """Its traffic is the champion's, whatever the maximum step is, and no other challenger's share rises."""
    previous = {"a": 0.38, "b": 0.6, "c": 0.01, "d": 0.01}
    gone = rolled_back(in_bandit("b", experiment=STEPPED), "b", occasion(3))
    for elapsed in (timedelta(), HOUR):
        shares = shares_of(gone, previous=previous, elapsed=elapsed)
        assert shares == pytest.approx({"a": 0.98, "b": 0.0, "c": 0.01, "d": 0.01})
        assert shares["b"] == 0
    former = {"a": 0.05, "b": 0.93, "c": 0.01, "d": 0.01}
    back = rolled_back(promoted(in_bandit("b", experiment=STEPPED), "b", occasion(3)), "b", occasion(4))
    assert shares_of(back, previous=former, elapsed=timedelta()) == pytest.approx(
        {"a": 0.98, "b": 0.0, "c": 0.01, "d": 0.01}
    )


@given(
    launching=launchings(),
    raw=raw_shares,
    hours=st.floats(0, 3),
    seen=st.lists(parts, min_size=4, max_size=4),
)
def test_steps_are_bounded_from_any_shares(
    launching: Launching, raw: list[float], hours: float, seen: list[float]
) -> None:
    """From whatever was served before, a challenger's share never rises by more than the step allows."""
    assume(sum(seen) > 0.1)
    total = sum(seen)
    previous = {arm_id: share / total for arm_id, share in zip(IDS, seen, strict=True)}
    limits = replace(launching.experiment.limits, maximum_step_per_hour=0.1)
    stepped = replace(launching, experiment=replace(launching.experiment, limits=limits))
    assume(any(previous[arm_id] > 0 and launching.launch.is_in_service(arm_id) for arm_id in IDS))
    shares = shares_of(stepped, raw, previous=previous, elapsed=hours * HOUR)
    for arm_id in IDS:
        if not launching.launch.is_in_service(arm_id):
            assert shares[arm_id] == 0
        elif arm_id != launching.experiment.champion:
            assert abs(shares[arm_id] - previous[arm_id]) <= 0.1 * hours + ROUNDING


@pytest.mark.parametrize(
    "policy",
    [
        ThompsonSampling(),
        EpsilonGreedy(0.2),
        WeightedSplit(weights={"b": 1.0}),
        WeightedSplit(weights={"c": 1.0}),
    ],
)
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_an_allocation_follows_the_launch(policy: DeclaredPolicy, stage: int) -> None:
    """Whatever the policy, only the pool enters it, and every stage has its shares."""
    experiment = replace(declare_launch(), policy=policy)
    launching = (waiting(experiment), underway(experiment), in_bandit("b", experiment=experiment))[stage]
    shares = allocated(experiment, launching.launch)
    assert sum(shares.values()) == pytest.approx(1, abs=ROUNDING)
    assert (shares["c"], shares["d"]) == pytest.approx((0.0, 0.0) if stage == 0 else (0.01, 0.01))
    assert shares["b"] == pytest.approx((0.0, 0.01)[stage]) if stage < 2 else shares["b"] > 0.01
    assert shares["a"] >= 0.2


def test_a_champion_that_is_taken_out_stops_no_allocation() -> None:
    """No move leads there, but a stored experiment must never stop the allocator: someone has to answer."""
    launching = underway()
    arms = tuple(replace(arm, is_taken_out=arm.id == "a") for arm in launching.experiment.arms)
    shares = allocated(replace(launching.experiment, arms=arms), launching.launch)
    assert shares == pytest.approx({"a": 0.97, "b": 0.01, "c": 0.01, "d": 0.01})


def test_an_ended_launch_gives_everything_back() -> None:
    """With every challenger at its end, the champion answers alone."""
    launching = underway()
    for arm_id in "bcd":
        launching = ended(launching, arm_id, ArmState.INCONCLUSIVE, occasion(5))
    assert allocated(launching.experiment, launching.launch) == {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}


def test_one_arm_alone_has_everything() -> None:
    """An experiment of a champion without challengers may declare a launch already."""
    launching = waiting(declare_launch([Arm(id="a")]))
    assert launch_shares([0.0], ["a"], launching.experiment, launching.launch) == np.array([1.0])


def allocated(experiment: Experiment, launch: Launch) -> dict[str, float]:
    """Return arm id to share before the first outcome."""
    state = replace(stand(experiment), launch=launch)
    shares = allocate(state).shares
    return {arm_id: shares[number] for arm_id, number in state.arm_numbers.items()}
