"""Clients at the end of a program, and in handlers of signals."""

import pytest

from tests.bandit.client.programs import Run

KINDS = ["blocking", "asyncio", "blocking with a stream", "asyncio with a stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_handler_of_an_exit(run_program: Run, kind: str) -> None:
    """A handler of an exit chooses, rewards and closes, with a client that was used before or was not.

    Python 3.12 starts no thread there, without which grpc.aio opens no channel: that fails at once, as ever.
    """
    stderr = run_program(
        f"""
import logging
logging.getLogger("bandit.client").addHandler(logging.NullHandler())
logging.getLogger("bandit.client").propagate = False

def has_threads():
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True

def leave(client):
    expected = ("v1", "recorded") if {kind!r}.startswith("blocking") or has_threads() else ("", "refused")
    began = time.monotonic()
    arm = choose(client)
    try:
        result = settle(client.reward("signed", {{"click": 1.0}})).metric_to_result["click"]
    except CallError:
        result = "refused"
    settle(client.close())
    if (arm, result) != expected or time.monotonic() - began > 5.0:
        print(arm, result, expected, time.monotonic() - began, file=sys.stderr)

used = make({kind!r})
expect(choose(used), "v1")
atexit.register(leave, used)
atexit.register(leave, make({kind!r}))
"""
    )
    assert stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_daemon_threads_at_the_end(run_program: Run, kind: str) -> None:
    """Daemon threads that call until the interpreter ends neither hold it up nor print a traceback."""
    stderr = run_program(
        f"""
client = make({kind!r})
def work():
    while True:
        choose(client)
threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
time.sleep(0.3)
"""
    )
    assert stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_calls_in_flight_at_the_end(run_program: Run, kind: str) -> None:
    """A program ends at once and in silence though a daemon thread waits for an answer that never comes."""
    stderr = run_program(
        f"""
import socket
listener = socket.create_server(("127.0.0.1", 0))
TARGET = f"127.0.0.1:{{listener.getsockname()[1]}}"
client = make({kind!r}, choose_timeout=60.0)
threading.Thread(target=choose, args=(client,), daemon=True).start()
time.sleep(0.5)
listener.detach()
"""
    )
    assert stderr == ""


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_is_never_closed(run_program: Run, kind: str) -> None:
    """A client that lives in a module until the end, or is let go before, leaves no warning behind."""
    stderr = run_program(
        f"""
client = make({kind!r})
for _ in range(3):
    expect(choose(client), "v1")
    other = make({kind!r})
    expect(choose(other), "v1")
del other
gc.collect()
"""
    )
    assert stderr == ""


@pytest.mark.parametrize("kind", ["blocking", "blocking with a stream"])
def test_handler_of_a_signal(run_program: Run, kind: str) -> None:
    """A signal handler calls with the client that it interrupts, wherever that is, and neither hangs."""
    run_program(
        f"""
import logging
logging.getLogger("bandit.client").addHandler(logging.NullHandler())
logging.getLogger("bandit.client").propagate = False
handled, n_inside = [], 0
def handle(_number, _frame):
    global n_inside
    if n_inside == 3:  # a busy machine takes longer for calls than the timer does
        return
    n_inside += 1
    handled.append(choose(client))
    choose(closed)
    n_inside -= 1
signal.signal(signal.SIGALRM, handle)
closed = make({kind!r})
closed.close()
client = make({kind!r})
for each in (closed, client):
    throttle, counters, connection = each._fallbacks._throttle, each._counters, each._connection
    with throttle._lock, counters._lock, connection._lock:  # where it may interrupt
        signal.raise_signal(signal.SIGALRM)
expect(len(handled), 2)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.003)
end = time.monotonic() + 3.0
while time.monotonic() < end:
    client = make({kind!r})
    expect(choose(client), "v1")
    choose(closed)
    client.close() if len(handled) % 2 else None
signal.setitimer(signal.ITIMER_REAL, 0)
expect(len(handled) > 10, True)
"""
    )
