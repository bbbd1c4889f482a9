"""Missing results come with their reason; nothing is NaN, and no interval is too narrow."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from math import inf, isnan, log
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.data.table import EvidenceTable, ValueScale
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import UNDECLARED_FLOOR, Design
from bandit.inference.sequential.means import MeanEstimate, estimate_mean, look_at_mean
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.off_policy import Gain, SplitValue, value_of_split
from bandit.inference.sequential.results import Interval
from bandit.metric import Direction
from tests.bandit.inference.tables import AMOUNT, make_table

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
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_comparisons_give_the_reason(situation: str) -> None:
    """Comparisons that need both arms give the reason, also in words."""
    table, reason = SITUATIONS[situation]
    assert compare(table, 1, 0, DESIGN) == CannotSay(reason)
    assert CannotSay(reason).explanation


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        *(SITUATIONS[name] for name in ("no epoch", "nothing resolved", "one arm silent", "added yesterday")),
        (SITUATIONS["never both"][0], Reason.ARM_WITHOUT_SHARE),
        (make_table([[0.97, 0.03]] * 2, [[97, 3]] * 2, [[9, 1]] * 2), Reason.SHARES_BELOW_FLOOR),
        (make_table(EVEN, [[50, 50]], [[5, 5]]), Reason.FEW_DECISIONS),
        (make_table(EVEN * 2, [[15, 15], [1, 1]], [[5, 5], [1, 0]]), Reason.FEW_DECISIONS),
    ],
)
def test_values_of_splits_give_the_reason(table: EvidenceTable, reason: Reason) -> None:
    """Splits need their arms' floors for bounds, and decisions after the first 32."""
    assert value_of_split(table, {0: 0.5, 1: 0.5}, DESIGN) == CannotSay(reason)


def test_every_reason_has_words() -> None:
    """Every reason has an explanation."""
    assert all(CannotSay(reason).explanation for reason in Reason)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (empty_table(), Reason.NO_CLOSED_EPOCH),
        (SITUATIONS["never both"][0], Reason.ARM_WITHOUT_SHARE),
        (make_table(EVEN, [[50, 50]], [[0, 0]]), Reason.NO_EVENTS),
        (make_table(EVEN, [[50, 50]], [[5, 5]], scale=AMOUNT), Reason.NOT_YES_NO),
    ],
)
def test_odds_of_harm_give_the_reason(table: EvidenceTable, reason: Reason) -> None:
    """Without events of two arms, odds give the reason."""
    assert harm_process(table, 1, 0) == CannotSay(reason)


@pytest.mark.parametrize(("n_events", "least"), [(4, 0.0), (5, 20.0), (7, 120.0)])
def test_a_champion_without_events_does_not_hide_harm(n_events: int, least: float) -> None:
    """At a share of .05, five events of the challenger and none of the champion reach E = 20, seven 120."""
    scale = ValueScale(direction=Direction.MINIMIZE)
    table = make_table([[0.95, 0.05]], [[950, 50]], [[0, n_events]], scale=scale)
    process = harm_process(table, 1, 0)
    assert not isinstance(process, CannotSay)
    assert process.value >= least
    assert n_events > 4 or process.value < 20


def test_negative_ranges_have_no_ratio() -> None:
    """A metric that may be negative has a difference but no relative change."""
    scale = ValueScale(minimum=-1.0, is_binary=False)
    found = compare(make_table(EVEN, [[50, 50]], [[5, 5]], scale=scale), 1, 0, DESIGN)
    assert isinstance(found, Comparison)
    assert (found.lift, found.relative) == (CannotSay(Reason.NO_RATIO_SCALE), None)


def test_shares_below_the_floor_are_left_out_of_splits_only() -> None:
    """Nothing of a comparison is divided by a share; a split counts rows from a share of 1 % on."""
    table = make_table([[0.5, 0.5], [0.5, 0.5], [0.995, 0.005]], [[50, 50]] * 2 + [[995, 5]], [[5, 5]] * 3)
    found, split = compare(table, 1, 0, Design()), value_of_split(table, {0: 1.0, 1: 1.0}, Design())
    assert isinstance(found, Comparison)
    assert isinstance(split, SplitValue)
    assert (found.n_decisions, found.n_tested) == (1200, 1100)
    assert (split.n_decisions, split.n_below, split.n_centre, split.n_omitted) == (100, 1000, 100, 1100)
    assert Design(floors={1: 0.0}).floor(1) == pytest.approx(UNDECLARED_FLOOR)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [1.0, 5.0, 1_000.0])
def test_certain_outcomes_leave_doubt(rate: float, n: float) -> None:
    """With all successes, none, or no variance at all, bounds stay as wide as n warrants.

    A rate 2 / n away from what was seen is still plausible (its chance to look like this is above .1), and
    is inside.
    """
    scale = ValueScale(is_binary=rate != 0.5)
    cells = np.array([[20, 20], [n, n]])
    table = make_table(EVEN * 2, cells, cells * rate, squares=cells * rate**2, scale=scale)
    mean = estimate_mean(table, 1, 0, Design(floors={0: 0.5, 1: 0.5}))
    assert isinstance(mean, MeanEstimate)
    reach = min(2 / (n + 20), 0.5)
    assert mean.interval.lower <= max(rate - reach, 0.0)
    assert mean.interval.upper >= min(rate + reach, 1.0)
    found = compare(table, 1, 0, Design(floors={0: 0.5, 1: 0.5}))
    assert isinstance(found, Comparison)
    assert found.interval.lower <= -min(1 / n, 1.0)
    assert found.interval.upper >= min(1 / n, 1.0)
    assert found.better.p_value == pytest.approx(1.0)


def test_arms_outside_a_split_may_have_any_share() -> None:
    """A tiny share of an arm that the split leaves out does no harm."""
    table = make_table([[0.5, 0.5, 1e-310]] * 2, [[50, 50, 0]] * 2, [[5, 5, 0]] * 2)
    result = value_of_split(table, {0: 1.0, 1: 1.0}, DESIGN)
    assert isinstance(result, SplitValue)
    assert result.value == pytest.approx(0.1)


def test_a_split_whose_arms_had_no_decision_since_has_its_centres_for_a_value() -> None:
    """If an arm was only chosen among the first decisions, its value is the centre, and bounds are wide."""
    table = make_table([[0.95, 0.05]] * 2, [[100, 5], [50, 0]], [[20, 1], [10, 0]])
    result = value_of_split(table, {1: 1.0}, DESIGN)
    assert isinstance(result, SplitValue)
    assert (result.effective_sample_size, result.ips_value) == (0.0, 0.0)
    assert result.value == pytest.approx(0.2)
    assert result.interval == Interval(0.0, 1.0)


@pytest.mark.parametrize("is_moved", [False, True])
def test_shares_that_were_those_of_the_split_have_no_gain(is_moved: bool) -> None:  # noqa: FBT001 - a case
    """If the split was in force all the time, what the bandit earned beyond it is only noise."""
    shares = np.tile([0.75, 0.25], (3, 1))
    shares[0] = [0.9, 0.1]  # only a centre
    shares[2] = [0.7, 0.3] if is_moved else shares[2]
    table = make_table(shares, [[90, 30]] * 3, [[9, 5], [9, 5], [9, 5]])
    result = value_of_split(table, {0: 3.0, 1: 1.0}, DESIGN)
    assert isinstance(result, SplitValue)
    assert isinstance(result.gain, Gain) if is_moved else result.gain == CannotSay(Reason.SPLIT_IN_FORCE)


@pytest.mark.parametrize("split", [{}, {0: 0.0}, {0: -1.0, 1: 2.0}, {0: float("nan")}])
def test_impossible_splits_are_refused(split: dict[int, float]) -> None:
    """Splits with a negative weight, or without a positive one, are refused."""
    with pytest.raises(ValueError, match="weights must be"):
        value_of_split(make_table(EVEN, [[5, 5]], [[1, 1]]), split, DESIGN)


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
    lambda table: estimate_mean(table, 1, 0, DESIGN),
    lambda table: estimate_mean(table, 0, 0, DESIGN),
    lambda table: compare(table, 1, 0, DESIGN),
    lambda table: harm_process(table, 1, 0),
    lambda table: value_of_split(table, {0: 1.0, 1: 3.0}, DESIGN),
    lambda table: look_at_mean(table, 1, 0, DESIGN, 3),
)


@settings(max_examples=24)
@given(st.data(), st.booleans())
def test_nothing_is_ever_nan(data: st.DataObject, is_binary: bool) -> None:  # noqa: FBT001 - drawn
    """For extreme shares, up to 1e9 decisions and any sums, results are ordered numbers or a reason."""
    n_rows = data.draw(st.integers(1, 4))
    pairs = st.lists(st.floats(0, 1), min_size=2, max_size=2)
    cells = st.lists(pairs, min_size=n_rows, max_size=n_rows)
    first = np.array([row[:1] for row in data.draw(cells)])
    n = np.floor(10 ** (9 * np.array(data.draw(cells))))
    sums = np.floor(n * np.array(data.draw(cells)))
    scale = ValueScale(is_binary=is_binary)
    table = make_table(np.hstack([first, 1 - first]), n, sums, scale=scale)
    for estimate in ESTIMATES:
        result = estimate(table)
        assert not any(isnan(number) for number in numbers_in(result))
        intervals = [getattr(result, name, None) for name in ("interval", "lift", "approximate")]
        gain = getattr(result, "gain", None)
        for interval in (*intervals, getattr(gain, "interval", None)):
            if isinstance(interval, Interval):
                assert interval.lower <= interval.upper


EXTREMES = [1e-11, 1e-4, 0.5, 1 - 1e-4, 1 - 1e-11]


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("share", EXTREMES)
def test_the_largest_counts_are_compared_in_bounded_time(share: float, is_binary: bool) -> None:  # noqa: FBT001 - a case
    """A billion decisions a row, with sums at the ends of the range and any shares, take seconds at most."""
    started_at = process_time()
    for rates in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1e-9, 0.3)):
        n = np.full((4, 2), 1e9)
        n[0, 1] = n[2, 0] = 0
        sums = np.floor(n * rates)
        table = make_table([[1 - share, share]] * 4, n, sums, scale=ValueScale(is_binary=is_binary))
        found = compare(table, 1, 0, DESIGN)
        assert isinstance(found, Comparison)
        level = DESIGN.log_level
        assert (found.interval.lower > 0) == (found.better.log_value >= level)
        assert (found.interval.upper < 0) == (found.worse.log_value >= level)
        assert found.interval.lower <= found.difference <= found.interval.upper
        assert max(map(abs, found.better.log_values)) < inf
    assert process_time() - started_at < 5


def test_e_values_of_any_size_are_numbers() -> None:
    """Ln E is finite where E itself is beyond any float, and a lost cause is no lower than -1400."""
    table = make_table([[0.5, 0.5]] * 2, [[1e9, 1e9]] * 2, [[0, 1e9]] * 2)
    found = compare(table, 1, 0, DESIGN)
    assert isinstance(found, Comparison)
    assert found.better.log_value > 1e8
    assert found.better.value == pytest.approx(np.exp(700))
    assert -1401 <= found.worse.log_value < -log(1e100)
