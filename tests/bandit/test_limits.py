"""Limits on shares, for any policy and any limits."""

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from bandit.limits import (
    FORGIVEN,
    ArmStanding,
    InfeasibleLimitsError,
    Limits,
    apply_limits,
    draws_above_floors,
)

ROUNDING = 1e-9
HOUR = timedelta(hours=1)


def standings(n_arms: int) -> list[ArmStanding]:
    """Return arms that are eligible and past any warm-up."""
    return [ArmStanding(id=f"arm-{i}", decisions=10**9, age=timedelta(days=999)) for i in range(n_arms)]


@st.composite
def wishes(draw: st.DrawFn, n_arms: int) -> NDArray[np.float64]:
    """A policy's shares, often with zeros, or with everything on one arm."""
    weights = draw(st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 7.0]), min_size=n_arms, max_size=n_arms))
    total = sum(weights)
    return np.array(weights) / total if total else np.full(n_arms, 1 / n_arms)


@st.composite
def feasible_limits(draw: st.DrawFn, n_arms: int) -> Limits:
    """Floors of any sum up to 1 with a cap above all of them that n arms can fill."""
    parts = np.array(draw(st.lists(st.floats(0, 1), min_size=n_arms, max_size=n_arms)))
    floors = parts / max(parts.sum(), 1) * draw(st.sampled_from([0.0, 0.5, 1.0]))
    least_cap = max(floors.max(), 1 / n_arms)
    cap = min(1.0, least_cap + draw(st.floats(0, 1)))
    by_arm = {f"arm-{index}": min(float(floor), cap) for index, floor in enumerate(floors)}
    return Limits(minimum_shares=by_arm, maximum_share=cap)


@given(data=st.data(), n_arms=st.integers(1, 8))
def test_floors_and_caps_hold(data: st.DataObject, n_arms: int) -> None:
    """Shares sum to 1, and each is within its arm's minimum and maximum."""
    limits = data.draw(feasible_limits(n_arms))
    arms = standings(n_arms)
    limits.require_feasible(arm.id for arm in arms)
    shares = apply_limits(data.draw(wishes(n_arms)), arms, limits)
    assert shares.sum() == pytest.approx(1, abs=ROUNDING)
    assert (shares >= np.array([limits.floor_of(arm.id) for arm in arms]) - ROUNDING).all()
    assert (shares <= limits.maximum_share + ROUNDING).all()


@given(data=st.data(), n_arms=st.integers(2, 8))
def test_the_wishes_order_is_kept(data: st.DataObject, n_arms: int) -> None:
    """With one minimum and one maximum for all, an arm that the policy prefers never gets less."""
    floor = data.draw(st.floats(0, 1 / n_arms))
    limits = Limits(minimum_share=floor, maximum_share=data.draw(st.floats(1 / n_arms, 1)))
    wish = data.draw(wishes(n_arms))
    shares = apply_limits(wish, standings(n_arms), limits)
    order = np.argsort(wish, kind="stable")
    assert (np.diff(shares[order]) >= -ROUNDING).all()


@given(data=st.data(), n_arms=st.integers(2, 8))
def test_arms_taken_out_get_nothing(data: st.DataObject, n_arms: int) -> None:
    """Whatever the limits, arms taken out get exactly 0 at once, and the others still sum to 1."""
    limits = data.draw(feasible_limits(n_arms))
    limits = Limits(
        minimum_shares=limits.minimum_shares, maximum_share=limits.maximum_share, maximum_step_per_hour=0.01
    )
    n_out = data.draw(st.integers(1, n_arms - 1))
    arms = [
        ArmStanding(id=arm.id, eligible=index >= n_out, decisions=arm.decisions, age=arm.age)
        for index, arm in enumerate(standings(n_arms))
    ]
    previous = data.draw(wishes(n_arms))
    shares = apply_limits(data.draw(wishes(n_arms)), arms, limits, previous=previous, elapsed=HOUR)
    assert (shares[:n_out] == 0).all()
    assert shares.sum() == pytest.approx(1, abs=ROUNDING)


@given(data=st.data(), n_arms=st.integers(1, 8), hours=st.floats(0, 30), step=st.floats(0.001, 1))
def test_steps_are_bounded(data: st.DataObject, n_arms: int, hours: float, step: float) -> None:
    """No share moves faster than the maximum step, and limits that held before still hold."""
    feasible = data.draw(feasible_limits(n_arms))
    limits = Limits(
        minimum_shares=feasible.minimum_shares,
        maximum_share=feasible.maximum_share,
        maximum_step_per_hour=step,
    )
    arms = standings(n_arms)
    previous = apply_limits(data.draw(wishes(n_arms)), arms, feasible)
    wish = data.draw(wishes(n_arms))
    shares = apply_limits(wish, arms, limits, previous=previous, elapsed=hours * HOUR)
    target = apply_limits(wish, arms, feasible)
    assert np.abs(shares - previous).max() <= step * hours + ROUNDING
    assert (shares >= np.array([limits.floor_of(arm.id) for arm in arms]) - ROUNDING).all()
    assert (shares <= limits.maximum_share + ROUNDING).all()
    # On the straight line, and as far along it as the bound allows.
    reached = np.abs(target - shares).max() <= ROUNDING
    assert reached or np.abs(shares - previous).max() == pytest.approx(step * hours, abs=ROUNDING)
    assert (
        np.abs(np.abs(shares - previous) + np.abs(target - shares) - np.abs(target - previous)).max()
        <= ROUNDING
    )


@given(data=st.data(), n_arms=st.integers(1, 8))
def test_limits_treat_arms_alike(data: st.DataObject, n_arms: int) -> None:
    """Permuting arms permutes their shares."""
    limits, wish = data.draw(feasible_limits(n_arms)), data.draw(wishes(n_arms))
    order = data.draw(st.permutations(range(n_arms)))
    arms = standings(n_arms)
    shuffled = apply_limits(wish[order], [arms[index] for index in order], limits)
    assert shuffled == pytest.approx(apply_limits(wish, arms, limits)[order], abs=ROUNDING)


def test_no_limits_change_nothing() -> None:
    """The default limits leave the policy's shares unchanged."""
    wish = [0.0, 0.25, 0.75]
    assert apply_limits(wish, standings(3), Limits()).tolist() == wish


def test_minimum_shares_are_additive() -> None:
    """A floor is granted first, and the policy divides the rest: f + (1 - sum f) p."""
    limits = Limits(minimum_share=0.05, minimum_shares={"arm-0": 0.2})
    shares = apply_limits([0.0, 0.5, 0.5], standings(3), limits)
    assert shares == pytest.approx([0.2, 0.4, 0.4])


def test_excess_goes_to_the_others_in_proportion() -> None:
    """The others get what the cap takes from one arm, in proportion, until no arm exceeds the cap."""
    limits = Limits(maximum_share=0.4)
    shares = apply_limits([0.8, 0.16, 0.03, 0.01], standings(4), limits)
    assert shares == pytest.approx([0.4, 0.4, 0.15, 0.05])


def test_excess_over_arms_without_share_is_spread_evenly() -> None:
    """If the policy gives everything to one arm, the arms that get the excess get equal parts."""
    shares = apply_limits([1.0, 0.0, 0.0], standings(3), Limits(maximum_share=0.6))
    assert shares == pytest.approx([0.6, 0.2, 0.2])


def test_a_cap_that_too_few_arms_are_left_for_is_relaxed() -> None:
    """Taking arms out never makes allocation fail: a cap below 1/n is read as 1/n."""
    arms = [ArmStanding(id="a"), ArmStanding(id="b", eligible=False), ArmStanding(id="c", eligible=False)]
    limits = Limits(maximum_share=0.4)
    assert apply_limits([0.2, 0.4, 0.4], arms, limits).tolist() == [1.0, 0.0, 0.0]
    arms[1] = ArmStanding(id="b")
    assert apply_limits([0.9, 0.1, 0.0], arms, limits) == pytest.approx([0.5, 0.5, 0.0])


def test_a_new_arm_gets_an_equal_part_of_what_the_floors_leave() -> None:
    """A new challenger gets 1/n of the free traffic, whatever the policy, and none of the reserve."""
    arms = [
        ArmStanding(id="champion", decisions=10_000),
        ArmStanding(id="old", decisions=5_000),
        ArmStanding(id="new", decisions=12),
    ]
    limits = Limits(minimum_shares={"champion": 0.4}, warm_up_decisions=1_000)
    shares = apply_limits([0.09, 0.01, 0.9], arms, limits)
    assert shares == pytest.approx([0.4 + 0.6 * 0.6, 0.6 * 2 / 30, 0.6 / 3])


@pytest.mark.parametrize(
    ("decisions", "age", "is_new"),
    [(99, HOUR, True), (100, HOUR, False), (99, 24 * HOUR, False), (100, 24 * HOUR, False)],
)
def test_warm_up_ends_at_either_bound(decisions: int, age: timedelta, is_new: bool) -> None:  # noqa: FBT001
    """An arm is new until it has its decisions or its deadline has passed, whichever comes first."""
    limits = Limits(warm_up_decisions=100, warm_up_duration=24 * HOUR)
    assert limits.is_new(ArmStanding(id="a", decisions=decisions, age=age)) is is_new


def test_each_warm_up_bound_works_alone() -> None:
    """A warm-up may be bounded by decisions only, by time only, or be absent."""
    arm = ArmStanding(id="a", decisions=50, age=HOUR)
    assert Limits(warm_up_decisions=51).is_new(arm)
    assert Limits(warm_up_duration=2 * HOUR).is_new(arm)
    assert not Limits(warm_up_duration=HOUR).is_new(arm)
    assert not Limits().is_new(arm)


def test_only_new_arms_share_evenly() -> None:
    """At the start, when every arm is new, the policy has no effect."""
    arms = [ArmStanding(id="a"), ArmStanding(id="b")]
    assert apply_limits([0.9, 0.1], arms, Limits(warm_up_decisions=1)).tolist() == [0.5, 0.5]


def test_a_step_is_per_hour_since_the_previous_epoch_began() -> None:
    """Half an hour allows half of the hourly step, and an epoch of no length allows none."""
    limits = Limits(maximum_step_per_hour=0.2)
    previous = [0.8, 0.2, 0.0]
    half_hour = apply_limits([0.0, 0.2, 0.8], standings(3), limits, previous=previous, elapsed=HOUR / 2)
    assert half_hour == pytest.approx([0.7, 0.2, 0.1])
    at_once = apply_limits([0.0, 0.2, 0.8], standings(3), limits, previous=previous)
    assert at_once == pytest.approx(previous)


def test_taking_an_arm_out_is_exempt_from_the_step() -> None:
    """An arm drops to 0 at once; the others start from its share spread over them, then step."""
    arms = [ArmStanding(id="a"), ArmStanding(id="b"), ArmStanding(id="c", eligible=False)]
    limits = Limits(maximum_step_per_hour=0.1)
    shares = apply_limits([0.0, 1.0, 0.0], arms, limits, previous=[0.3, 0.3, 0.4], elapsed=HOUR)
    assert shares == pytest.approx([0.4, 0.6, 0.0])


def test_without_any_share_to_start_from_there_is_no_step() -> None:
    """If every arm that had traffic is taken out, the others take their shares at once."""
    arms = [ArmStanding(id="a", eligible=False), ArmStanding(id="b"), ArmStanding(id="c")]
    limits = Limits(maximum_step_per_hour=0.01)
    shares = apply_limits([0.0, 0.7, 0.3], arms, limits, previous=[1.0, 0.0, 0.0], elapsed=HOUR)
    assert shares == pytest.approx([0.0, 0.7, 0.3])


@pytest.mark.parametrize(
    ("limits", "n_arms", "message"),
    [
        (Limits(minimum_share=0.05), 24, "minimum shares sum to 1.2 over 24 eligible arms; .* at most 1"),
        (
            Limits(maximum_share=0.3),
            3,
            "3 eligible arms with at most 0.3 each sum to less than 1; .* 0.333333",
        ),
        (
            Limits(minimum_shares={"arm-1": 0.7}, maximum_share=0.6),
            2,
            "'arm-1' is 0.7; .* maximum share, 0.6",
        ),
    ],
)
def test_limits_that_nothing_can_meet_are_refused(limits: Limits, n_arms: int, message: str) -> None:
    """Limits that no shares meet are refused with the conflicting numbers."""
    with pytest.raises(InfeasibleLimitsError, match=message):
        limits.require_feasible(arm.id for arm in standings(n_arms))


ROUNDED_SUMS = [
    [0.333333, 0.333333, 0.333334],
    [0.33333334] * 3,
    [0.166667] * 6,
    [0.5, 0.500000001],
    [0.1] * 10,
    [0.0666667] * 15,
]


@pytest.mark.parametrize("floors", ROUNDED_SUMS)
def test_rounded_floors_are_feasible(floors: list[float]) -> None:
    """Parts of one that were written to a few digits may sum to a little more, and shares still sum to 1."""
    limits = Limits(minimum_shares={f"arm-{index}": floor for index, floor in enumerate(floors)})
    arms = standings(len(floors))
    limits.require_feasible(arm.id for arm in arms)
    shares = apply_limits([1.0] + [0.0] * (len(floors) - 1), arms, limits)
    assert shares.sum() == pytest.approx(1, abs=1e-15)
    assert shares == pytest.approx(floors, abs=2e-5)


@given(n_arms=st.integers(1, 20), n_digits=st.integers(6, 12))
def test_equal_parts_of_six_digits_are_feasible(n_arms: int, n_digits: int) -> None:
    """1/n of n arms, rounded to six digits or more, is a minimum and a maximum share that can be met."""
    part = round(1 / n_arms, n_digits)
    limits = Limits(minimum_share=part, maximum_share=part)
    limits.require_feasible(arm.id for arm in standings(n_arms))
    shares = apply_limits([1.0] * n_arms, standings(n_arms), limits)
    assert shares == pytest.approx(np.full(n_arms, 1 / n_arms), abs=1e-12)


@given(data=st.data(), n_arms=st.integers(2, 8), excess=st.floats(0, FORGIVEN))
def test_forgiven_floors_hold_once_they_are_scaled(data: st.DataObject, n_arms: int, excess: float) -> None:
    """Whatever the policy wishes, an arm gets its floor, scaled like all the others to sum to 1 at most."""
    parts = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=n_arms, max_size=n_arms)))
    floors = np.minimum(parts / parts.sum() * (1 + 0.999 * excess), 1.0)
    limits = Limits(minimum_shares={f"arm-{index}": float(floor) for index, floor in enumerate(floors)})
    arms = standings(n_arms)
    scaled = np.array(limits.floors_of([arm.id for arm in arms]))
    assert math.fsum(scaled) <= 1 + 1e-15
    assert scaled == pytest.approx(floors, rel=1.01 * FORGIVEN)
    shares = apply_limits(data.draw(wishes(n_arms)), arms, limits)
    assert (shares >= scaled - 1e-12).all()
    assert shares.sum() == pytest.approx(1, abs=1e-12)


@given(excess=st.floats(1.001 * FORGIVEN, 0.5))
def test_a_refused_sum_shows_that_it_is_above_one(excess: float) -> None:
    """The digits of the error show the breach, however small it is."""
    limits = Limits(minimum_shares={"arm-0": 0.5, "arm-1": 0.5 + excess})
    with pytest.raises(InfeasibleLimitsError, match="at most 1") as caught:
        limits.require_feasible(["arm-0", "arm-1"])
    assert float(caught.value.demand.split()[4]) > 1


def test_errors_show_values_as_they_were_written() -> None:
    """A value just outside its range is not rounded into it."""
    with pytest.raises(ValueError, match=r"got 1\.000000001$"):
        Limits(minimum_share=1.000000001)
    with pytest.raises(InfeasibleLimitsError, match=r"is 0\.6000001; .* share, 0\.59$"):
        Limits(minimum_shares={"a": 0.6000001}, maximum_share=0.59).require_feasible(["a", "b"])


def test_floors_above_one_are_refused_when_applied() -> None:
    """Floors that were never checked do not turn into negative shares."""
    with pytest.raises(InfeasibleLimitsError, match=r"sum to 1\.5 over 3"):
        apply_limits([0.2, 0.3, 0.5], standings(3), Limits(minimum_share=0.5))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([0.5, 0.5], r"raw shares must have shape \(3,\), got \(2,\)"),
        ([0.5, 0.6, -0.1], "not negative"),
        ([0.5, 0.5, np.nan], "finite"),
    ],
)
def test_invalid_shares_are_refused(raw: list[float], message: str) -> None:
    """Raw shares of the wrong shape, negative or not finite raise ValueError."""
    with pytest.raises(ValueError, match=message):
        apply_limits(raw, standings(3), Limits())


def test_without_an_eligible_arm_there_are_no_shares() -> None:
    """Without an eligible arm ValueError is raised; the service answers with its fallback instead."""
    with pytest.raises(ValueError, match="no arm is eligible"):
        apply_limits([1.0], [ArmStanding(id="a", eligible=False)], Limits())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Limits(minimum_share=-0.1), r"minimum share must be in \[0, 1\], got -0.1"),
        (lambda: Limits(minimum_shares={"a": 2.0}), r"minimum share must be in \[0, 1\], got 2"),
        (lambda: Limits(maximum_share=0.0), r"maximum share must be in \(0, 1\], got 0"),
        (lambda: Limits(maximum_step_per_hour=0.0), "positive and finite, got 0"),
        (lambda: Limits(warm_up_decisions=-1), "not be negative, got -1"),
        (lambda: Limits(warm_up_duration=timedelta(0)), "warm-up duration must be positive"),
    ],
)
def test_bounds_outside_their_range_are_refused(build: type[Limits], message: str) -> None:
    """Limits check each bound when they are created, and the error names it."""
    with pytest.raises(ValueError, match=message):
        build()


def test_draws_above_floors_follow_the_limits() -> None:
    """Simulated draws follow the shares with the same floors: a chi-square test at 1e-6."""
    n_runs, floors = 200_000, [0.2, 0.05, 0.05]
    raw = np.array([0.1, 0.7, 0.2])
    rng = np.random.default_rng(3)
    drawn = draws_above_floors(rng.choice(3, size=(2, n_runs // 2), p=raw), floors, rng)
    assert drawn.shape == (2, n_runs // 2)
    limits = Limits(minimum_share=0.05, minimum_shares={"a": 0.2})
    expected = n_runs * apply_limits(raw, [ArmStanding(id=each) for each in "abc"], limits)
    statistic = ((np.bincount(drawn.ravel(), minlength=3) - expected) ** 2 / expected).sum()
    assert special.chdtrc(2, statistic) > 1e-6


@pytest.mark.parametrize("floors", [[0.6, 0.6], [-0.1, 0.2], [math.nan, 0.1]])
def test_draws_above_floors_refuse_infeasible_floors(floors: list[float]) -> None:
    """Floors that sum to more than 1, are negative or are not numbers are refused."""
    with pytest.raises(ValueError, match=r"shares sum|floors must be"):
        draws_above_floors(np.zeros(3, dtype=np.int64), floors, np.random.default_rng(1))
