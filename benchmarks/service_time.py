"""Cost of service time in Choose: `python -m benchmarks.service_time`.

Times the service's own Choose, in process, by the host's wall clock, by service time, and by service time
that is slewed, in alternating rounds, so that other work of the machine affects all alike; and the clocks
alone.
"""

import argparse
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from typing_extensions import override

from benchmarks.harness.choosers import make_chooser, make_counter
from benchmarks.unit_rows import N_UNITS, PlainCounter, time_round
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import ServiceClock
from server.store.records import ClockReading, ClockRecord

_RECORD: Final = ClockRecord(
    generation=1,
    mark=None,
    trusted=None,
    running=timedelta(),
    beat_at=None,
    doubt=None,
    doubted_at=None,
)


class _WallClock(Clock):
    """The clocks as Choose read them before there was service time."""

    @override
    def monotonic(self) -> float:
        return time.monotonic()


def slewed_clock() -> ServiceClock:
    """Return service time that is catching up half an hour, which takes an hour."""
    clock = ServiceClock(Clock())
    began = clock.monotonic()
    for seconds, minutes in ((0, 0), (1, -30), (62, -30)):
        at = clock.host.now() + timedelta(seconds=seconds, minutes=minutes)
        clock.take(ClockReading(at=at, record=_RECORD, last_seen=None), began + seconds, began + seconds)
    return clock


def time_clock(ask: Callable[[], int]) -> float:
    """Return the nanoseconds that reading a clock takes, over one round."""
    started_at = time.perf_counter()
    for _ in range(N_UNITS):
        ask()
    return (time.perf_counter() - started_at) / N_UNITS * 1e9


def measure(n_rounds: int) -> None:
    """Print the least time of a call in any round, which noise only adds to, and its ratio to the first."""
    units = [f"user-{number}" for number in range(N_UNITS)]
    clocks = {"wall clock": _WallClock(), "service time": ServiceClock(Clock()), "slewed": slewed_clock()}
    choosers = {
        name: make_chooser(counter=make_counter(PlainCounter), clock=clock) for name, clock in clocks.items()
    }
    calls = dict.fromkeys(clocks, float("inf"))
    asks = dict.fromkeys(clocks, float("inf"))
    for _ in range(n_rounds):
        for name, clock in clocks.items():
            calls[name] = min(calls[name], time_round(*choosers[name], units))
            asks[name] = min(asks[name], time_clock(clock.time_ms))
    print(f"{n_rounds} alternating rounds of {N_UNITS:,} calls, the least of each")
    for name in clocks:
        ratio = calls[name] / calls["wall clock"]
        print(
            f"{name:14} {calls[name]:6.2f} us a Choose   x {ratio:.3f}   {asks[name]:6.0f} ns to ask the time"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service_time", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="alternating rounds of 1,000 calls (400)")
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
