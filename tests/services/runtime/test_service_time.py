"""Service time: a clock that can't be set, and readings of one that can; it never trusts too soon."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.services.runtime.service_time import EARLIEST, Change, Pace, ServiceClock
from server.store.records import ClockReading, ClockRecord
from tests.bandit.builders import HOUR, MINUTE, SECOND, START
from tests.services.support import ManualClock

DAY = timedelta(days=1)
SETTLE = 10 * MINUTE


class Watch:
    """A service clock that is read when the test asks, on a host whose wall clock the test sets.

    Args:
        mark: What the database has marked.
        last_seen: When the database was last written.
        is_shared: Whether servers share the clock.
    """

    def __init__(
        self,
        mark: datetime | None = START,
        *,
        last_seen: datetime | None = None,
        is_shared: bool = False,
        wall: datetime = START,
    ) -> None:
        self.host = ManualClock()
        self.host.jump(wall - START)
        self.mark = mark
        self.last_seen = last_seen
        self.generation = 1
        self.clock = ServiceClock(self.host, Pace(SETTLE), is_shared=is_shared)
        self.began = self.read()

    def read(self, seconds_taken: float = 0.0) -> list[Change]:
        """Read the wall clock; the reading takes `seconds_taken`."""
        record = ClockRecord(
            generation=self.generation,
            mark=self.mark,
            trusted=self.mark,
            running=DAY,
            beat_at=self.mark,
            doubt=None,
            doubted_at=None,
        )
        asked_at = self.host.monotonic()
        reading = ClockReading(at=self.host.now(), record=record, last_seen=self.last_seen)
        self.host.advance(seconds_taken)
        return self.clock.take(reading, asked_at, self.host.monotonic())

    def wait(self, time: timedelta) -> list[Change]:
        """Let time pass, with a reading a second; return what changed."""
        changes = []
        for _ in range(round(time / SECOND)):
            self.host.advance(1.0)
            changes += self.read()
        return changes

    def jump(self, by: timedelta) -> list[Change]:
        """Set the wall clock, and read it."""
        self.host.jump(by)
        return self.read()

    def is_doubted(self) -> bool:
        """True if service time is in doubt."""
        return self.clock.is_doubted

    @property
    def error(self) -> timedelta:
        """How far the wall clock is ahead of service time."""
        return self.host.now() - self.clock.now()


def test_an_agreeing_clock_changes_nothing() -> None:
    """Hours of readings that agree cause no doubt and no change: service time is the wall clock's."""
    watch = Watch()
    assert watch.began == [Change.BEGAN]
    assert watch.wait(HOUR) == []
    assert watch.error == timedelta()
    assert not watch.is_doubted()
    assert watch.clock.time_ms() == watch.host.time_ms()


@pytest.mark.parametrize("by", [timedelta(milliseconds=900), timedelta(milliseconds=-900)])
def test_less_than_a_second_is_slewed(by: timedelta) -> None:
    """Less than a second is corrected at half a second per second, without a change being reported."""
    watch = Watch()
    assert watch.jump(by) == []
    assert watch.error == by
    assert watch.wait(SECOND) == []
    assert abs(abs(watch.error) - timedelta(milliseconds=400)) <= timedelta(microseconds=2)
    assert watch.wait(SECOND) == []
    assert watch.error == timedelta()


@pytest.mark.parametrize("by", [3 * SECOND, -3 * SECOND, 90 * DAY, -90 * DAY, 3650 * DAY])
def test_a_jump_of_seconds_is_only_doubt(by: timedelta) -> None:
    """Time runs on as before while the clock is wrong, and goes on when the clock is put right."""
    watch = Watch()
    watch.wait(MINUTE)
    assert watch.jump(by) == [Change.DOUBTED]
    assert watch.is_doubted()
    assert watch.clock.trusted_until() is None
    assert watch.wait(5 * SECOND) == []
    assert watch.error == by
    assert watch.jump(-by) == [Change.AGREED]
    assert not watch.is_doubted()
    assert watch.clock.is_settled
    assert watch.clock.trusted_until() == START


def test_a_clock_that_is_an_hour_ahead_is_followed_after_a_minute() -> None:
    """After a minute, and not before, a clock an hour ahead is followed; nothing has to settle."""
    watch = Watch()
    watch.jump(HOUR)
    assert watch.wait(59 * SECOND) == []
    assert watch.wait(SECOND) == [Change.FOLLOWED]
    assert watch.error == timedelta()
    assert watch.clock.is_settled


def test_a_clock_that_is_far_ahead_is_followed_after_ten_minutes_and_settles_in_ten_more() -> None:
    """Until the clock is followed and has settled, nothing is refused for good and nothing is trusted."""
    watch = Watch()
    watch.jump(HOUR + 2 * SECOND)
    assert watch.wait(SETTLE - SECOND) == []
    assert watch.wait(SECOND) == [Change.FOLLOWED]
    assert not watch.is_doubted()
    assert not watch.clock.is_settled
    assert watch.clock.trusted_until() is None
    assert watch.clock.next_mark is None
    assert watch.wait(SETTLE - SECOND) == []
    assert watch.wait(SECOND) == [Change.SETTLED]
    assert watch.clock.next_mark is not None


def test_a_clock_that_jumps_about_is_not_followed() -> None:
    """Only a consistent clock is followed: each new time starts the wait again."""
    watch = Watch()
    for _ in range(30):
        watch.jump(5 * MINUTE)
        assert Change.FOLLOWED not in watch.wait(50 * SECOND)
    assert watch.is_doubted()


def test_a_clock_that_is_behind_is_waited_for_at_half_speed() -> None:
    """After a minute, without doubt, time slows down; it never stops or goes back."""
    watch = Watch()
    watch.jump(-10 * MINUTE)
    assert watch.wait(MINUTE) == [Change.FOLLOWED]
    last = watch.clock.now()
    for _ in range(20 * 60 - 1):
        assert watch.wait(SECOND) == []
        assert abs(watch.clock.now() - last - SECOND / 2) <= timedelta(microseconds=2)
        last = watch.clock.now()
    watch.wait(2 * SECOND)
    assert watch.error == timedelta()


def test_a_clock_that_is_far_behind_the_mark_is_never_followed() -> None:
    """Time runs on, in doubt, until an operator accepts the clock; then it goes back at once."""
    watch = Watch(START)
    watch.wait(MINUTE)
    watch.mark = watch.clock.now()
    watch.jump(-2 * HOUR)
    assert watch.wait(2 * SETTLE) == []
    assert watch.is_doubted()
    assert watch.error == -2 * HOUR
    watch.generation, watch.mark = 2, watch.host.now()
    assert watch.read() == [Change.ACCEPTED]
    assert watch.error == timedelta()
    assert not watch.is_doubted()
    assert watch.clock.is_settled


@pytest.mark.parametrize("mark", [START, None])
def test_time_that_was_never_marked_is_taken_back(mark: datetime | None) -> None:
    """After a start 90 days ahead, time follows a clock that is put right by itself, a minute later."""
    watch = Watch(mark, last_seen=START if mark is None else None, wall=START + 90 * DAY)
    assert watch.clock.now() == START + 90 * DAY
    assert not watch.clock.is_settled
    watch.wait(3 * SECOND)
    assert watch.jump(-90 * DAY) == [Change.DOUBTED]
    assert watch.wait(MINUTE) == [Change.FOLLOWED]
    assert watch.error == timedelta()
    assert watch.clock.is_settled


def test_a_start_takes_the_mark_if_the_clock_is_behind() -> None:
    """A restart does not make time go back."""
    watch = Watch(START + 2 * DAY)
    assert watch.began == [Change.BEGAN, Change.DOUBTED]
    assert watch.clock.now() == START + 2 * DAY
    watch.wait(2 * SETTLE)
    assert watch.is_doubted()


@pytest.mark.parametrize("downtime", [HOUR + SECOND, 30 * DAY])
def test_a_start_long_after_the_mark_settles_by_itself(downtime: timedelta) -> None:
    """A start follows the clock at once, and for ten minutes confirms nothing that can't be taken back."""
    watch = Watch(wall=START + downtime)
    assert watch.clock.now() == START + downtime
    assert not watch.is_doubted()
    assert not watch.clock.is_settled
    assert watch.wait(SETTLE - SECOND) == []
    assert watch.clock.next_mark is None
    assert watch.wait(SECOND) == [Change.SETTLED]
    assert watch.clock.next_mark == watch.host.now()


@pytest.mark.parametrize(
    ("last_seen", "is_settled"),
    [(None, True), (START, True), (START - HOUR, True), (START - DAY, False), (START + DAY, False)],
)
def test_without_a_mark_a_start_is_compared_with_what_the_database_saw(
    last_seen: datetime | None, *, is_settled: bool
) -> None:
    """An empty database has seen nothing that could contradict the clock."""
    assert Watch(None, last_seen=last_seen).clock.is_settled is is_settled


def test_the_mark_waits_for_ten_minutes_without_doubt() -> None:
    """Each doubt restarts the ten minutes before the mark moves."""
    watch = Watch()
    watch.wait(SETTLE - 2 * SECOND)
    assert watch.clock.next_mark is None
    watch.jump(5 * SECOND)
    watch.jump(-5 * SECOND)
    watch.wait(SETTLE - SECOND)
    assert watch.clock.next_mark is None
    watch.wait(SECOND)
    assert watch.clock.next_mark == watch.clock.now()


def test_a_clock_at_1970_is_never_taken() -> None:
    """A start goes on from the mark, or from the earliest date that this code can run on; then it waits."""
    never_set = datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert Watch(None, wall=never_set).clock.now() == EARLIEST
    watch = Watch(wall=never_set)
    assert watch.clock.now() == START
    watch.wait(2 * SETTLE)
    assert watch.is_doubted()
    watch.jump(watch.clock.now() - watch.host.now())
    assert not watch.is_doubted()


@pytest.mark.parametrize(("is_shared", "confirms"), [(True, False), (False, True)])
def test_decisions_in_doubt_steer_only_where_the_clock_is_not_shared(
    *, is_shared: bool, confirms: bool
) -> None:
    """On a shared database the other servers may see another time, so decisions in doubt do not steer."""
    watch = Watch(is_shared=is_shared)
    assert watch.clock.confirms_decisions
    watch.jump(DAY)
    assert watch.clock.confirms_decisions is confirms
    watch.jump(-DAY)
    assert watch.clock.confirms_decisions


def test_a_slow_reading_is_no_doubt() -> None:
    """A time read at some moment within four seconds is not known to the second, and moves nothing."""
    watch = Watch()
    watch.wait(MINUTE)
    assert watch.read(seconds_taken=4.0) == []
    assert watch.error == timedelta()
    watch.host.advance(2.0)
    assert watch.error == timedelta()


def test_a_machine_that_slept_is_followed() -> None:
    """After a sleep that stopped the monotonic clock, the wall clock is ahead by it, and is followed."""
    watch = Watch()
    assert watch.jump(8 * HOUR) == [Change.DOUBTED]
    assert watch.wait(SETTLE) == [Change.FOLLOWED]


@given(seed=st.integers(0, 2**32))
def test_time_never_goes_back_while_nothing_is_taken_back(seed: int) -> None:
    """Time never goes back, whatever the wall clock does, behind the mark, and however long readings take."""
    generator = random.Random(seed)
    watch = Watch()
    last = watch.clock.now()
    for _ in range(60):
        watch.mark = watch.clock.now()
        watch.host.jump(SECOND * generator.choice([0, 0, 0, 0.3, -0.3, 2, -2, 90, -90, 86_400, -86_400]))
        watch.read(generator.choice([0.0, 0.0, 0.5, 3.0]))
        for _ in range(3):
            assert watch.clock.now() >= last
            last = watch.clock.now()
            watch.host.advance(generator.choice([0.01, 0.4, 25.0]))
