"""When a client may open a stream again: at once, after a back-off, or once the server may be another."""

import random

import grpc
import pytest

from bandit.client.streams.tries import LONGEST_BACKOFF, UNIMPLEMENTED_SECONDS, Tries

OK = grpc.StatusCode.OK
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Clock:
    """Seconds that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of the tries."""
    return Clock()


@pytest.fixture
def tries(clock: Clock) -> Tries:
    """Tries that always draw the longest wait."""
    return Tries(clock=clock, uniform=lambda _low, high: high)


def wait_of(tries: Tries, clock: Clock) -> float:
    """Move the time in steps of half a second until a stream may be opened; return how long that took."""
    began = clock.now
    while not tries.may_open():
        clock.now += 0.5
    return clock.now - began


def test_waits_double(tries: Tries, clock: Clock) -> None:
    """The longest wait doubles with each failure in a row, from one second to thirty."""
    waits = []
    for _ in range(7):
        tries.note_end(UNAVAILABLE, has_answered=False)
        waits.append(wait_of(tries, clock))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_waits_are_drawn(clock: Clock) -> None:
    """A wait is drawn between nothing and the longest, so that clients do not come back together."""
    drawn: list[tuple[float, float]] = []
    chance = random.Random(7)

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return chance.uniform(low, high)

    tries = Tries(clock=clock, uniform=draw)
    for _ in range(2):
        tries.note_end(UNAVAILABLE, has_answered=False)
    assert drawn == [(0.0, 1.0), (0.0, 2.0)]


def test_many_failures(tries: Tries, clock: Clock) -> None:
    """However often it fails, the wait stays finite."""
    for _ in range(5_000):
        tries.note_end(UNAVAILABLE, has_answered=False)
    assert wait_of(tries, clock) == LONGEST_BACKOFF


def test_answers_end_the_doubling(tries: Tries, clock: Clock) -> None:
    """A stream that has answered before it failed begins the waits anew."""
    for _ in range(5):
        tries.note_end(UNAVAILABLE, has_answered=False)
    tries.note_end(UNAVAILABLE, has_answered=True)
    assert wait_of(tries, clock) == 1.0


def test_drained_stream_is_replaced_at_once(tries: Tries) -> None:
    """A stream that answered and was ended with OK is replaced without a wait."""
    tries.note_end(OK, has_answered=True)
    assert tries.may_open()


def test_stream_without_answers_is_not(tries: Tries, clock: Clock) -> None:
    """One that was ended with OK before any answer is a failure: else each question would open another."""
    tries.note_end(OK, has_answered=False)
    assert wait_of(tries, clock) == 1.0


def test_server_without_streams_is_remembered(tries: Tries, clock: Clock) -> None:
    """A server that has no streams is asked for one again after ten minutes."""
    tries.note_end(grpc.StatusCode.UNIMPLEMENTED, has_answered=False)
    assert wait_of(tries, clock) == UNIMPLEMENTED_SECONDS == 600.0
