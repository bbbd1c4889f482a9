"""A reward outbox in signal handlers, which Python runs between any two lines of the program."""

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bandit.client import OutboxError, RewardOutbox
from tests.bandit.client.outbox.outboxes import OpenOutbox

_LINES = 400
"""More than a call of `reward` has."""


class InterruptError(Exception):
    """What a signal handler raises."""


def reward_interrupted(
    outbox: RewardOutbox, number: int, handler: Callable[[], object], at: str = "line"
) -> bool:
    """Keep a reward, and call `handler` before a line or call in the library; False beyond the last."""
    left = number

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if (
            "/bandit/client/" not in frame.f_code.co_filename
            and frame.f_code.co_filename != threading.__file__
        ):
            return None
        left -= event == at
        if event == at and left == 0:
            sys.settrace(None)
            handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        outbox.reward("interrupted", {"click": 1.0})
    finally:
        sys.settrace(before)
    return left <= 0


def within(seconds: float, act: Callable[[], object]) -> None:
    """Run in a thread of its own, and fail if it hangs."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - raised by the test
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if failures:
        raise failures[0]


def test_handler_keeps_a_reward(open_outbox: OpenOutbox) -> None:
    """Wherever a handler interrupts a reward to keep its own, both are kept, once, and neither hangs."""
    outbox = open_outbox()
    outbox.reward("first", {"click": 1.0})

    def interrupt_each_line() -> None:
        for line in range(1, _LINES):
            before = len(outbox)
            if not reward_interrupted(outbox, line, lambda: outbox.reward("handler", {"click": 1.0})):
                assert line > 1
                return
            assert len(outbox) == before + 2
        raise AssertionError("a reward has more lines than expected")

    within(60, interrupt_each_line)


def test_handler_that_raises(open_outbox: OpenOutbox) -> None:
    """Wherever a handler raises, the outbox keeps the next reward, of this thread and of others."""
    outbox = open_outbox()
    outbox.reward("first", {"click": 1.0})

    def raise_interrupt() -> None:
        raise InterruptError

    def interrupt_each_call() -> None:
        for number in range(1, _LINES):
            try:
                if not reward_interrupted(outbox, number, raise_interrupt, at="call"):
                    return
            except InterruptError:
                pass
            within(10, lambda: outbox.reward("after", {"click": 1.0}))
            outbox.reward("after", {"click": 1.0})

    within(60, interrupt_each_call)


@pytest.mark.parametrize("line", [1, 25, 47, 49, 51, 60, 76])
def test_handler_that_closes(line: int, open_outbox: OpenOutbox) -> None:
    """A handler may close the outbox in the middle of a reward, which is kept or says that it is not."""
    outbox = open_outbox()
    try:
        reward_interrupted(outbox, line, lambda: outbox.close(0))
        n_kept = 1
    except OutboxError:
        n_kept = 0
    outbox.close(0)
    assert len(open_outbox()) == n_kept
