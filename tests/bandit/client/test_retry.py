"""The waits between attempts: jittered, growing, and within one deadline."""

from datetime import timedelta

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.client import RetryPolicy
from bandit.client.errors import call_error
from bandit.client.retry import Attempts

UNAVAILABLE = call_error(grpc.StatusCode.UNAVAILABLE, "away")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@given(
    n_attempts=st.integers(1, 10_000),
    initial=st.floats(1e-3, 10.0),
    maximum=st.floats(1e-3, 100.0),
)
def test_backoff_is_bounded(n_attempts: int, initial: float, maximum: float) -> None:
    """The backoff never shrinks, and never exceeds its maximum."""
    policy = RetryPolicy(initial_backoff=initial, maximum_backoff=maximum)
    assert policy.backoff(n_attempts) <= policy.backoff(n_attempts + 1) <= maximum


@given(share=st.floats(0.0, 1.0))
def test_jitter_is_full(share: float) -> None:
    """The wait is drawn from zero to the backoff."""
    drawn = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low + share * (high - low)

    attempts = Attempts(RetryPolicy(initial_backoff=0.5), clock=Clock(), uniform=uniform)
    attempts.begin()
    assert attempts.find_delay(UNAVAILABLE) == pytest.approx(0.5 * share)
    attempts.begin()
    attempts.find_delay(UNAVAILABLE)
    assert drawn == [(0.0, 0.5), (0.0, 1.0)]


@given(jitters=st.lists(st.floats(0.0, 1.0), max_size=50), slow=st.floats(0.0, 5.0))
def test_attempts_end_by_the_deadline(jitters: list[float], slow: float) -> None:
    """However long attempts and waits take, the last attempt gets no more than the time that is left."""
    clock = Clock()
    draws = iter([*jitters, *[1.0] * 1000])
    attempts = Attempts(
        RetryPolicy(timeout=10.0, initial_backoff=0.5),
        clock=clock,
        uniform=lambda _, high: next(draws) * high,
    )
    while True:
        clock.now += min(slow, attempts.begin())
        delay = attempts.find_delay(UNAVAILABLE)
        if delay is None:
            break
        clock.now += delay
        assert clock.now < 10.0
    assert clock.now <= 10.0


def test_one_attempt_has_its_own_deadline() -> None:
    """An attempt takes no longer than its own timeout, nor than what is left of the whole."""
    clock = Clock()
    attempts = Attempts(RetryPolicy(timeout=10.0, attempt_timeout=3.0), clock=clock)
    assert attempts.begin() == 3.0
    clock.now = 9.0
    assert attempts.begin() == 1.0


def test_timeout_of_the_call_comes_first() -> None:
    """The timeout of a call replaces the policy's."""
    attempts = Attempts(RetryPolicy(timeout=10.0, attempt_timeout=3.0), 0.5, clock=Clock())
    assert attempts.begin() == 0.5


def test_pushback_comes_before_jitter() -> None:
    """The wait is what the service asked for, plus the jitter."""
    error = call_error(grpc.StatusCode.UNAVAILABLE, "busy", retry_delay=timedelta(seconds=2))
    attempts = Attempts(RetryPolicy(initial_backoff=0.5), clock=Clock(), uniform=lambda _, high: high)
    attempts.begin()
    assert attempts.find_delay(error) == 2.5


@pytest.mark.parametrize("name", ["timeout", "attempt_timeout", "initial_backoff", "maximum_backoff"])
@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_durations_are_positive(name: str, seconds: float) -> None:
    """A duration that is not finite and more than zero is refused, with its name and value."""
    with pytest.raises(ValueError, match=f"{name} must be more than zero and finite, got {seconds}"):
        RetryPolicy(**{name: seconds})
