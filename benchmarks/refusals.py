"""Cost of a refused reward next to an accepted one: `python -m benchmarks.refusals`.

One server on an SQLite file, with an experiment of many epochs. New rewards and rewards that are refused for
good are posted in alternating rounds, so that other work of the machine affects all alike. The measure is the
CPU time of the server, all threads together.
"""

import argparse
import base64
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import grpc

from bandit.client import BanditClient
from bandit.v1 import bandit_pb2, bandit_pb2_grpc, experiment_pb2
from benchmarks.harness.processes import Child, cpu_seconds, serving

NAME: Final = "refusals"
_IN_FLIGHT: Final = 100
_CALL_SECONDS: Final = 120.0
_UNKNOWN_KEY: Final = 200
_HISTORY: Final = """
    WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
    INSERT INTO epochs
        (experiment, segment, number, nonce, revision, started_at, champion, shares, warming_up, means)
    SELECT experiment, segment, n, nonce, revision, started_at, champion, shares, warming_up, means
    FROM epochs CROSS JOIN numbers
"""

Make = Callable[[str], bandit_pb2.RewardRequest]
"""A function from the id of a new decision to a reward."""


def _accepted(decision_id: str) -> bandit_pb2.RewardRequest:
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1.0})


def _unknown_metric(decision_id: str) -> bandit_pb2.RewardRequest:
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"undeclared": 1.0})


def _bad_value(decision_id: str) -> bandit_pb2.RewardRequest:
    return bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 0.5})


def _unknown_key(decision_id: str) -> bandit_pb2.RewardRequest:
    raw = bytearray(base64.urlsafe_b64decode(decision_id))
    raw[1] = _UNKNOWN_KEY
    return _accepted(base64.urlsafe_b64encode(raw).decode())


CASES: Final[dict[str, Make]] = {
    "accepted": _accepted,
    "unknown metric": _unknown_metric,
    "bad value": _bad_value,
    "unknown key": _unknown_key,
}


def _start(address: str) -> None:
    """Start an experiment."""
    with BanditClient(address) as client:
        client.experiments.create(
            experiment_pb2.Experiment(
                name=NAME,
                arms=[experiment_pb2.Arm(id="a"), experiment_pb2.Arm(id="b")],
                champion="a",
                metrics=[experiment_pb2.Metric(name="click", kind=experiment_pb2.METRIC_KIND_BINARY)],
                reward_metric="click",
                policy=experiment_pb2.Policy(
                    static_split=experiment_pb2.StaticSplit(weights={"a": 1.0, "b": 1.0})
                ),
            )
        )
        client.experiments.start(NAME)


def _post(stub: bandit_pb2_grpc.BanditServiceStub, requests: Sequence[bandit_pb2.RewardRequest]) -> None:
    """Post them in batches."""
    for start in range(0, len(requests), _IN_FLIGHT):
        some = requests[start : start + _IN_FLIGHT]
        calls = [stub.Reward.future(request, timeout=_CALL_SECONDS) for request in some]
        for call in calls:
            call.exception()


def _measure(child: Child, n_rounds: int, n_calls: int) -> dict[str, float]:
    """Return case mapped to microseconds of CPU a call."""
    spent = dict.fromkeys(CASES, 0.0)
    with closing(grpc.insecure_channel(child.address)) as channel:
        stub = bandit_pb2_grpc.BanditServiceStub(channel)
        question = bandit_pb2.ChooseRequest(experiment=NAME)
        for _ in range(n_rounds):
            for name, make in CASES.items():
                asked = bandit_pb2.BatchChooseRequest(requests=[question] * n_calls)
                results = stub.BatchChoose(asked, timeout=_CALL_SECONDS).results
                requests = [make(result.choice.decision_id) for result in results]
                began = cpu_seconds(child.pid)
                _post(stub, requests)
                spent[name] += cpu_seconds(child.pid) - began
    return {name: seconds / (n_rounds * n_calls) * 1e6 for name, seconds in spent.items()}


def measure(n_epochs: int, n_rounds: int, n_calls: int) -> None:
    """Print the cost of each case, and its ratio to an accepted reward."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as child:
        _start(child.address)
        (file,) = Path(folder).glob("*.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(_HISTORY, (n_epochs,))
        costs = _measure(child, n_rounds, n_calls)
    print(f"{n_epochs:,} epochs, {n_rounds} alternating rounds of {n_calls:,} calls, {_IN_FLIGHT} in flight")
    for name, cost in costs.items():
        print(f"{name:16} {cost:8,.0f} us of CPU a call   x {cost / costs['accepted']:.2f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refusals", description=__doc__)
    parser.add_argument("--epochs", type=int, default=20_000, help="epochs of the experiment (20,000)")
    parser.add_argument("--rounds", type=int, default=10, help="alternating rounds (10)")
    parser.add_argument("--calls", type=int, default=200, help="calls a round, at most 1,000 (200)")
    arguments = parser.parse_args()
    measure(arguments.epochs, arguments.rounds, arguments.calls)


if __name__ == "__main__":
    main()
