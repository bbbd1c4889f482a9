"""Throttled logging: what is left out, and when a line is logged again."""

from server.services.runtime.log_throttle import LogThrottle
from tests.services.support import ManualClock


def test_a_flood_logs_a_line_now_and_then(clock: ManualClock) -> None:
    """Each key logs one line every ten seconds, with the number of lines left out before it."""
    throttle = LogThrottle(clock)
    assert [throttle.admit(key) for key in ("a", "a", "b", "a")] == [0, None, 1, None]
    clock.advance(9.9)
    assert throttle.admit("a") is None
    clock.advance(0.1)
    assert [throttle.admit(key) for key in ("a", "b")] == [2, 0]


def test_after_a_reset_every_line_is_logged(clock: ManualClock) -> None:
    """After a reset the next line is logged at once, with the number of those left out before."""
    throttle = LogThrottle(clock)
    assert [throttle.admit(), throttle.admit()] == [0, None]
    throttle.reset()
    assert throttle.admit() == 1


def test_a_flood_of_keys_takes_no_memory(clock: ManualClock) -> None:
    """Past a bound the keys are forgotten, and each may log a line again."""
    throttle = LogThrottle(clock)
    assert {throttle.admit(number) for number in range(5_000)} == {0}
    assert len(throttle._silent_until) <= 1_000
