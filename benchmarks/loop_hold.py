"""How long the event loop is held: `python -m benchmarks.loop_hold`.

Runs a server with many busy experiments whose facts grow, so that epochs are computed, facts folded, counts
flushed and rewards committed on its threads. Its fast lane answers Choose at a rate that leaves it time. A
timer ticks every millisecond on its event loop, and one in an idle process beside it, whose lateness is what
the machine and the timers cost. Rounds alternate between switch intervals of the interpreter, after which a
thread at work hands it to the event loop; what they cost is the processor time of the server a call.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import numpy as np
import uvloop

from bandit.v1 import bandit_pb2
from benchmarks.harness.experiments import declare, named
from benchmarks.harness.processes import FAST_LISTEN, Child, serving
from benchmarks.harness.ticking import tick
from benchmarks.harness.ticking_server import START, STOP
from benchmarks.harness.workloads import BATCH_CHOOSE, BATCH_REWARD, CHOOSE, METRIC
from benchmarks.throughput.listeners.prepared import Heading, write_requests
from benchmarks.throughput.listeners.programs import LoadProgram, build_load_client
from benchmarks.throughput.listeners.runs import Run, Shape, run

_SEED: Final = 5
_IDLE: Final = "--idle"
_IDLE_NAME: Final = "an idle process"
_SHAPE: Final = Shape(n_connections=8, n_in_flight=8)
_N_MESSAGES: Final = 16_000
_FEED_SECONDS: Final = 0.25
_FEED_SIZE: Final = 10
_WARM_UP_SECONDS: Final = 5.0
_PERCENTILES: Final = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


@contextmanager
def feeding(address: str, names: Sequence[str]) -> Iterator[None]:
    """Let the facts of every experiment grow four times a second until the block ends."""
    is_over = threading.Event()
    feeder = threading.Thread(target=_feed, args=(address, names, is_over))
    feeder.start()
    try:
        yield
    finally:
        is_over.set()
        feeder.join()


def _feed(address: str, names: Sequence[str], is_over: threading.Event) -> None:
    chance = random.Random(_SEED)
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        choose: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(BATCH_CHOOSE)
        reward: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(BATCH_REWARD)
        while not is_over.wait(_FEED_SECONDS):
            for start in range(0, len(names), _FEED_SIZE):
                asked = [
                    bandit_pb2.ChooseRequest(experiment=name) for name in names[start : start + _FEED_SIZE]
                ]
                answer = choose(bandit_pb2.BatchChooseRequest(requests=asked).SerializeToString())
                rewards = [
                    _reward_of(each.choice, chance)
                    for each in bandit_pb2.BatchChooseResponse.FromString(answer).results
                ]
                reward(bandit_pb2.BatchRewardRequest(requests=rewards).SerializeToString())


def _reward_of(choice: bandit_pb2.ChooseResponse, chance: random.Random) -> bandit_pb2.RewardRequest:
    is_click = chance.random() < 0.1 + 0.02 * int(choice.arm.removeprefix("v"))
    return bandit_pb2.RewardRequest(decision_id=choice.decision_id, outcomes={METRIC: float(is_click)})


def measure(scratch: Path, options: argparse.Namespace) -> None:
    """Run the rounds, and print the lateness of ticks by switch interval."""
    program, file = build_load_client(scratch), scratch / "ticks"
    names = named(options.arms, options.experiments)
    command = ("-m", "benchmarks.harness.ticking_server", str(file), "serve")
    late: defaultdict[str, list[float]] = defaultdict(list)
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    with serving(scratch, FAST_LISTEN, "127.0.0.1:0", command=command) as server:
        declare(server.address, {options.arms: names}, lambda _: None)
        requests = prepare(scratch, server.fast_address, names)
        with feeding(server.fast_address, names):
            time.sleep(_WARM_UP_SECONDS)
            for number in range(options.rounds * len(options.intervals)):
                interval = options.intervals[number % len(options.intervals)]
                name = f"switch interval {interval * 1e3:g} ms" if interval else "the server's own setting"
                file.write_text(str(interval) if interval else "")
                with idling(options.seconds, late[_IDLE_NAME]), ticking(server, file, late[name]):
                    runs[name].append(call(program, server, requests, options))
    report(late, runs)


def prepare(scratch: Path, address: str, names: Sequence[str]) -> Path:
    """Write calls of Choose for the load client, each of a unit of its own."""
    path = scratch / "requests"
    messages = [
        bandit_pb2.ChooseRequest(experiment=names[number % len(names)], unit=f"user-{number}")
        for number in range(_N_MESSAGES)
    ]
    heading = Heading(method=CHOOSE, authority=address)
    write_requests(path, heading, [each.SerializeToString() for each in messages], _SHAPE.n_connections)
    return path


def call(program: LoadProgram, server: Child, requests: Path, options: argparse.Namespace) -> Run:
    """Call Choose at the rate that was asked for."""
    return run(
        *(program, _SHAPE, requests),
        address=server.fast_address,
        pid=server.pid,
        seconds=options.seconds,
        rate=options.rate,
    )


@contextmanager
def ticking(server: Child, file: Path, late: list[float]) -> Iterator[None]:
    """Add the lateness of the server's ticks during the block."""
    before = file.stat().st_ino
    os.kill(server.pid, START)
    yield
    os.kill(server.pid, STOP)
    give_up_at = time.monotonic() + 30
    while file.stat().st_ino == before:
        if time.monotonic() > give_up_at:
            raise TimeoutError("the server has not written its ticks")
        time.sleep(0.01)
    late += json.loads(file.read_text())


@contextmanager
def idling(seconds: float, late: list[float]) -> Iterator[None]:
    """Add the lateness of ticks in an idle process, which ticks as long as the block takes or so."""
    command = [sys.executable, "-m", "benchmarks.loop_hold", _IDLE, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        yield
        late += json.loads(process.communicate()[0])


def report(late: dict[str, list[float]], runs: dict[str, list[Run]]) -> None:
    """Print percentiles of lateness in milliseconds, and of each round with least CPU what a call took."""
    for name, found in late.items():
        shown = "  ".join(f"{at} {np.percentile(found, q) * 1e3:6.2f}" for at, q in _PERCENTILES.items())
        line = f"{name:25} ms late: {shown}"
        if name in runs:
            least = min(runs[name], key=lambda each: each.cpu_us)
            line += f"   server {least.cpu_us:.1f} us of CPU a call, p99.9 {least.p999_us / 1e3:.2f} ms"
        print(line)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop_hold", description=__doc__)
    parser.add_argument("--experiments", type=int, default=200, help="busy experiments (200)")
    parser.add_argument("--arms", type=int, default=10, help="arms of each (10)")
    parser.add_argument("--rate", type=float, default=2_000.0, help="calls of Choose a second (2000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds a round (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each switch interval (3)")
    parser.add_argument(
        "--intervals",
        type=float,
        nargs="+",
        default=[0.0],
        help="switch intervals in seconds; 0 for what the server sets (0)",
    )
    parser.add_argument(
        _IDLE, type=float, metavar="SECONDS", help="only tick, and print the lateness as JSON"
    )
    return parser.parse_args()


def main() -> None:
    """Measure, or tick beside a measurement."""
    options = parse()
    if options.idle is not None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(tick(options.idle))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch), options)


if __name__ == "__main__":
    main()
