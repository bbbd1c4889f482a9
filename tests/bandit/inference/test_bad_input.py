"""Missing results come with their reason; nothing is NaN, and no interval is too narrow."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.aipw import Comparison, MeanEstimate, compare_means, estimate_mean
from bandit.inference.sequential.design import UNDECLARED_FLOOR, Design
from bandit.inference.sequential.lift import relative_lift
from bandit.inference.sequential.odds import OddsComparison, compare_odds, harm_process
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.sequential.results import Interval
from tests.bandit.inference.tables import make_table

DESIGN = Design(floors={0: 0.2, 1: 0.05})
EVEN = [[0.5, 0.5]]


def empty_table() -> EvidenceTable:
    """Return a table of two arms and no epoch."""
    nothing = np.zeros((0, 2))
    return make_table(nothing, nothing, nothing)


SITUATIONS: dict[str, tuple[EvidenceTable, Reason]] = {
    "no epoch": (empty_table(), Reason.NO_CLOSED_EPOCH),
    "nothing resolved": (make_table(EVEN, [[0, 0]], [[0, 0]]), Reason.NO_DECISIONS),
    "one arm silent": (make_table(EVEN, [[50, 0]], [[5, 0]]), Reason.ARM_WITHOUT_OUTCOMES),
    "added yesterday": (make_table([[1.0, 0.0]], [[50, 0]], [[5, 0]]), Reason.ARM_WITHOUT_SHARE),
    "never both": (
        make_table([[1, 0], [0, 1]], [[9, 0], [0, 9]], [[1, 0], [0, 1]]),
        Reason.ARM_WITHOUT_SHARE,
    ),
    "below the floor": (make_table([[0.97, 0.03]], [[97, 3]], [[9, 1]]), Reason.SHARES_BELOW_FLOOR),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_comparisons_give_the_reason(situation: str) -> None:
    """Means, lifts and splits that need both arms give the reason, also in words."""
    table, reason = SITUATIONS[situation]
    assert compare_means(table, 1, 0, DESIGN) == CannotSay(reason)
    assert relative_lift(table, 1, 0, DESIGN) == CannotSay(reason)
    assert value_of_split(table, {0: 0.5, 1: 0.5}, DESIGN) == CannotSay(reason)
    assert CannotSay(reason).explanation


def test_every_reason_has_words() -> None:
    """Every reason has an explanation."""
    assert all(CannotSay(reason).explanation for reason in Reason)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (empty_table(), Reason.NO_CLOSED_EPOCH),
        (SITUATIONS["never both"][0], Reason.ARM_WITHOUT_SHARE),
        (make_table(EVEN, [[50, 50]], [[0, 0]]), Reason.NO_EVENTS),
        (make_table(EVEN, [[50, 50]], [[5, 5]], scale=ValueScale(is_binary=False)), Reason.NOT_YES_NO),
    ],
)
def test_odds_give_the_reason(table: EvidenceTable, reason: Reason) -> None:
    """Without events of two arms, odds give the reason."""
    assert compare_odds(table, 1, 0) == CannotSay(reason)
    assert harm_process(table, 1, 0) == CannotSay(reason)


def test_negative_ranges_have_no_ratio() -> None:
    """A metric that may be negative has a difference but no relative lift."""
    table = make_table(EVEN, [[50, 50]], [[5, 5]], scale=ValueScale(minimum=-1.0, is_binary=False))
    assert relative_lift(table, 1, 0, DESIGN) == CannotSay(Reason.NO_RATIO_SCALE)
    assert isinstance(compare_means(table, 1, 0, DESIGN), Comparison)


def test_a_floor_of_zero_is_no_bound() -> None:
    """Without a floor, epochs with shares of at least 1 % count; decisions of others count as omitted."""
    table = make_table([[0.5, 0.5], [0.995, 0.005]], [[50, 50], [995, 5]], [[5, 5], [90, 2]])
    result = compare_means(table, 1, 0, Design())
    assert isinstance(result, Comparison)
    assert (result.n_decisions, result.n_omitted) == (100, 1000)
    assert Design(floors={1: 0.0}).floor(1) == pytest.approx(UNDECLARED_FLOOR)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1.0, 5.0, 1_000.0])
def test_certain_outcomes_leave_doubt(rate: float, n: float) -> None:
    """With all successes, none, or no variance about the prediction, bounds stay as wide as n warrants.

    A rate 2 / n away from what was seen is still plausible (its chance to look like this is above .1), and
    is inside.
    """
    scale = ValueScale(is_binary=rate != 0.5)
    cells = np.array([[n, n]])
    table = make_table(
        EVEN, cells, cells * rate, squares=cells * rate**2, predictions=[[rate, rate]], scale=scale
    )
    mean = estimate_mean(table, 1, Design(floors={0: 0.5, 1: 0.5}))
    assert isinstance(mean, MeanEstimate)
    reach = min(2 / n, 0.5)
    assert mean.interval.lower <= max(rate - reach, 0.0)
    assert mean.interval.upper >= min(rate + reach, 1.0)
    contrast = compare_means(table, 1, 0, Design(floors={0: 0.5, 1: 0.5}))
    assert isinstance(contrast, Comparison)
    assert contrast.interval.lower <= -min(1 / n, 1.0)
    assert contrast.interval.upper >= min(1 / n, 1.0)
    assert contrast.better.p_value == 1


def test_a_champion_without_events_bounds_no_lift() -> None:
    """If the champion's mean may be 0, the lift has no upper bound, by odds or by means."""
    table = make_table(EVEN, [[500, 500]], [[0, 90]], predictions=[[0.0, 0.0]])
    odds, means = compare_odds(table, 1, 0), relative_lift(table, 1, 0, Design(floors={0: 0.5, 1: 0.5}))
    assert isinstance(odds, OddsComparison)
    assert isinstance(means, Interval)
    assert odds.lift.upper == means.upper == float("inf")
    assert odds.lift.lower > 0
    assert means.lower > 0


def test_arms_outside_a_split_may_have_any_share() -> None:
    """A tiny share of an arm that the split leaves out does no harm."""
    table = make_table([[0.5, 0.5, 1e-310]], [[50, 50, 0]], [[5, 5, 0]])
    result = value_of_split(table, {0: 1.0, 1: 1.0}, DESIGN)
    assert isinstance(result, SplitValue)
    assert result.value == pytest.approx(0.1)


@pytest.mark.parametrize("split", [{}, {0: 0.0}, {0: -1.0, 1: 2.0}, {0: float("nan")}])
def test_impossible_splits_are_refused(split: dict[int, float]) -> None:
    """Splits with a negative weight, or without a positive one, are refused."""
    with pytest.raises(ValueError, match="weights must be"):
        value_of_split(make_table(EVEN, [[5, 5]], [[1, 1]]), split, DESIGN)


@pytest.mark.parametrize(
    "constants",
    [
        {"alpha": 0.5},
        {"alpha": 0.0},
        {"planned_decisions": 0.0},
        {"planned_variance": -1.0},
        {"prediction_cap": 0.0},
    ],
)
def test_impossible_designs_are_refused(constants: dict[str, float]) -> None:
    """A design outside its range is refused when it is created."""
    with pytest.raises(ValueError, match=r"alpha|planned|cap"):
        Design(**constants)  # type: ignore[arg-type]  # each is a number


def numbers_in(result: object) -> list[float]:
    """Yield every number in a nested result."""
    if isinstance(result, (int, float)):
        return [float(result)]
    if isinstance(result, tuple):
        return [number for part in result for number in numbers_in(part)]
    if is_dataclass(result):
        return [number for part in fields(result) for number in numbers_in(getattr(result, part.name))]
    return []


ESTIMATES: tuple[Callable[[EvidenceTable], object], ...] = (
    lambda table: estimate_mean(table, 1, DESIGN),
    lambda table: compare_means(table, 1, 0, DESIGN),
    lambda table: relative_lift(table, 1, 0, DESIGN),
    lambda table: compare_odds(table, 1, 0),
    lambda table: value_of_split(table, {0: 1.0, 1: 3.0}, DESIGN),
)


@settings(max_examples=12)
@given(st.data())
def test_nothing_is_ever_nan(data: st.DataObject) -> None:
    """For extreme shares, up to 1e9 decisions and any sums, results are ordered numbers or a reason."""
    n_epochs = data.draw(st.integers(1, 3))
    pairs = st.lists(st.floats(0, 1), min_size=2, max_size=2)
    cells = st.lists(pairs, min_size=n_epochs, max_size=n_epochs)
    first = np.array([row[:1] for row in data.draw(cells)])
    n = np.floor(10 ** (9 * np.array(data.draw(cells))))
    sums = np.floor(n * np.array(data.draw(cells)))
    table = make_table(np.hstack([first, 1 - first]), n, sums, predictions=np.array(data.draw(cells)))
    for estimate in ESTIMATES:
        result = estimate(table)
        assert not any(isnan(number) for number in numbers_in(result))
        for interval in (
            result,
            *(getattr(result, name, None) for name in ("interval", "lift", "gain_interval")),
        ):
            if isinstance(interval, Interval):
                assert interval.lower <= interval.upper
    assert isinstance(ESTIMATES[4](table), (SplitValue, CannotSay))
