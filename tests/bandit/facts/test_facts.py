"""Facts add in any order, and an epoch closes when no outcome of it can be in time any more."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.facts import MOST_AHEAD, Tally, ends_of, n_closed, starts_of
from tests.bandit.builders import HOUR, MINUTE, SECOND, START, make_epoch

outcomes = st.lists(st.tuples(st.integers(0, 2**20), st.booleans()), max_size=20)


@given(outcomes=outcomes, seed=st.integers(0, 2**32))
def test_tallies_add_in_any_order(outcomes: list[tuple[int, bool]], seed: int) -> None:
    """Tallies of shuffled outcomes, added one by one or in two heaps, are equal."""
    tallies = [Tally.of(quanta, is_late=is_late) for quanta, is_late in outcomes]
    shuffled = random.Random(seed).sample(tallies, len(tallies))
    one, two = Tally(), Tally()
    for index, tally in enumerate(shuffled):
        one, two = (one.plus(tally), two) if index % 2 else (one, two.plus(tally))
    total = Tally()
    for tally in tallies:
        total = total.plus(tally)
    assert one.plus(two) == two.plus(one) == total


@given(outcomes=outcomes)
def test_a_tally_is_the_plain_sums(outcomes: list[tuple[int, bool]]) -> None:
    """A tally has number, sum and sum of squares, with late outcomes separate from those in time."""
    total = Tally()
    for quanta, is_late in outcomes:
        total = total.plus(Tally.of(quanta, is_late=is_late))
    timely = [quanta for quanta, is_late in outcomes if not is_late]
    late = [quanta for quanta, is_late in outcomes if is_late]
    sums = [(len(part), sum(part), sum(quanta**2 for quanta in part)) for part in (timely, late)]
    assert total == Tally(*sums[0], *sums[1])


STARTS = [START, START + 10 * MINUTE, START + 30 * MINUTE]
EPOCHS = [make_epoch(number, started_at) for number, started_at in enumerate(STARTS, 1)]


@pytest.mark.parametrize(
    ("after_start", "expected"),
    [
        (10 * MINUTE + HOUR + 4 * SECOND, 0),
        (10 * MINUTE + HOUR + 5 * SECOND - timedelta(microseconds=1), 0),
        (10 * MINUTE + HOUR + 5 * SECOND, 1),
        (30 * MINUTE + HOUR + 4 * SECOND, 1),
        (30 * MINUTE + HOUR + 5 * SECOND, 2),
        (1000 * HOUR, 2),
    ],
)
def test_an_epoch_closes_a_window_and_a_lag_after_its_end(after_start: timedelta, expected: int) -> None:
    """An epoch closes when the next one's start + the lag + the window has passed; the last never closes."""
    assert n_closed(EPOCHS, HOUR, 5 * SECOND, START + after_start) == expected


@pytest.mark.parametrize("now", [START - HOUR, START, START + HOUR])
def test_without_a_window_every_epoch_counts(now: datetime) -> None:
    """Without a window nothing is waited for, not even in the epoch in force."""
    assert n_closed(EPOCHS, None, HOUR, now) == 3
    assert n_closed([], None, HOUR, now) == 0


def test_no_epoch_is_closed_before_there_are_two() -> None:
    """For a metric with a window, neither an empty list nor a single epoch has a closed one."""
    assert n_closed([], HOUR, SECOND, START + 1000 * HOUR) == 0
    assert n_closed(EPOCHS[:1], HOUR, SECOND, START + 1000 * HOUR) == 0


def test_closed_epochs_are_a_prefix() -> None:
    """If the clock was set back, no epoch counts as closed before an earlier one does."""
    third = replace(EPOCHS[2], started_at=START)
    assert n_closed([EPOCHS[0], EPOCHS[1], third], HOUR, SECOND, EPOCHS[1].started_at + HOUR) == 0


def test_a_clock_that_jumps_back_closes_nothing_early() -> None:
    """An epoch begun after the clock was set back does not end its predecessors before their time."""
    starts = [START, START + MINUTE, START - 24 * HOUR, START + 2 * MINUTE]
    epochs = [make_epoch(number, start) for number, start in enumerate(starts, 1)]
    assert ends_of(epochs) == [START + MINUTE, START + MINUTE, START + 2 * MINUTE]
    assert n_closed(epochs[:3], HOUR, SECOND, START - 2 * HOUR) == 0
    assert n_closed(epochs[:3], HOUR, SECOND, START + 2 * HOUR) == 2
    assert ends_of([]) == []


YEAR = timedelta(days=365)


def test_a_cap_ends_epochs_that_a_wrong_clock_put_into_the_future() -> None:
    """Epochs before it end when it starts, at the latest; those before the wrong clock when they did."""
    starts = [
        START,
        START + 10 * MINUTE,
        START + YEAR,
        START + YEAR,
        START + 20 * MINUTE,
        START + 30 * MINUTE,
    ]
    epochs = [make_epoch(number, started_at) for number, started_at in enumerate(starts, 1)]
    assert ends_of(epochs) == [START + 10 * MINUTE, *[START + YEAR] * 4]
    epochs[4] = replace(epochs[4], is_cap=True)
    assert ends_of(epochs) == [START + 10 * MINUTE, *[START + 20 * MINUTE] * 3, START + 30 * MINUTE]
    assert starts_of(epochs) == [*starts[:2], *[START + 20 * MINUTE] * 3, START + 30 * MINUTE]


@given(minutes=st.lists(st.integers(0, 100), min_size=2, max_size=12), caps=st.sets(st.integers(1, 11)))
def test_ends_are_in_order_and_within_the_caps(minutes: list[int], caps: set[int]) -> None:
    """Whatever the clocks read, no epoch ends before an earlier one, or later than a cap that came after it.

    Without caps no end lies before any start up to the next epoch's.
    """
    epochs = [
        replace(make_epoch(number, START + minute * MINUTE), is_cap=number in caps)
        for number, minute in enumerate(minutes)
    ]
    ends = ends_of(epochs)
    assert len(ends) == len(epochs) - 1
    assert ends == sorted(ends)
    for index, end in enumerate(ends):
        later_caps = [epoch.started_at for epoch in epochs[index + 1 :] if epoch.is_cap]
        assert all(end <= cap for cap in later_caps)
        if not caps & set(range(len(epochs))):
            assert end == max(epoch.started_at for epoch in epochs[: index + 2])


@pytest.mark.parametrize("ahead", [timedelta(), MOST_AHEAD, MOST_AHEAD + SECOND, YEAR])
def test_an_epoch_starts_after_the_one_before_it_unless_that_is_ahead(ahead: timedelta) -> None:
    """Clocks that disagree by minutes are waited for; an epoch further ahead is capped now."""
    before = make_epoch(1, START + ahead)
    is_cap = ahead > MOST_AHEAD
    assert before.start_of_next(START) == (START if is_cap else START + ahead, is_cap)
    assert before.start_of_next(START + 2 * YEAR) == (START + 2 * YEAR, False)
