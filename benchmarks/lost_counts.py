"""The effect of kills on a mean with a value for silence, with and without keeping outcomes apart.

`python -m benchmarks.lost_counts` runs a real server on a file, asks it for decisions at a steady rate, posts
a success for some of them and nothing for the others, and kills it again and again. At the end it prints the
true rate of successes, the evidence's, and what it would be if outcomes stayed without their decisions.
"""

import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import grpc
from google.protobuf import duration_pb2

from bandit.decision_id import Basis
from bandit.v1 import bandit_pb2, bandit_pb2_grpc, experiment_pb2, experiment_pb2_grpc
from benchmarks.harness.processes import Child, ChildError, running
from server.services.runtime.clock import Clock
from server.store.opening import open_store

_NAME: Final = "lost-counts"
_CALL_SECONDS: Final = 20.0


def _declare(child: Child) -> None:
    with grpc.insecure_channel(child.address) as channel:
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        metric = experiment_pb2.Metric(
            name="click",
            kind=experiment_pb2.METRIC_KIND_BINARY,
            default_value=0.0,
            window=duration_pb2.Duration(seconds=3600),
        )
        declared = experiment_pb2.Experiment(
            name=_NAME,
            arms=[experiment_pb2.Arm(id="a"), experiment_pb2.Arm(id="b")],
            champion="a",
            metrics=[metric],
            reward_metric="click",
        )
        stub.CreateExperiment(
            experiment_pb2.CreateExperimentRequest(experiment=declared), timeout=_CALL_SECONDS
        )
        stub.StartExperiment(experiment_pb2.StartExperimentRequest(name=_NAME), timeout=_CALL_SECONDS)


def _use(child: Child, rate: float, seconds: float, generator: random.Random) -> tuple[int, int]:
    """Decide in batches for `seconds`; return how many decisions and how many successes there were."""
    n_decisions = n_successes = 0
    request = bandit_pb2.ChooseRequest(experiment=_NAME)
    with grpc.insecure_channel(child.address) as channel:
        stub = bandit_pb2_grpc.BanditServiceStub(channel)
        stop_at = time.monotonic() + seconds
        while time.monotonic() < stop_at:
            batch = bandit_pb2.BatchChooseRequest(requests=[request] * 20)
            chosen = [each.choice for each in stub.BatchChoose(batch, timeout=_CALL_SECONDS).results]
            posted = [each.decision_id for each in chosen if generator.random() < rate]
            rewards = [bandit_pb2.RewardRequest(decision_id=each, outcomes={"click": 1.0}) for each in posted]
            if rewards:
                stub.BatchReward(bandit_pb2.BatchRewardRequest(requests=rewards), timeout=_CALL_SECONDS)
            n_decisions += len(chosen)
            n_successes += len(posted)
            time.sleep(0.01)
    return n_decisions, n_successes


def _counted(database: Path) -> tuple[int, int, int]:
    """Return policy decisions in the facts, their outcomes, and outcomes kept apart."""
    with closing(open_store(f"sqlite:///{database}")) as store:
        record = store.find_experiment(_NAME)
        found = None if record is None else store.read_facts(record.number)
        if found is None:
            raise click.ClickException("the server left no experiment")
        decisions = found.facts.count_decisions()
        return (
            sum(count for (_, basis), count in decisions.items() if basis is Basis.POLICY),
            found.facts.count_outcomes(Basis.POLICY),
            found.facts.count_outcomes(Basis.UNCOUNTED),
        )


@click.command()
@click.option("--kills", default=20, show_default=True, help="How often the server is killed.")
@click.option("--life-seconds", default=3.0, show_default=True, help="Mean seconds between kills.")
@click.option("--rate", default=0.3, show_default=True, help="Successes per decision.")
@click.option("--seed", default=1, show_default=True, help="Seed of the kills and the successes.")
def main(kills: int, life_seconds: float, rate: float, seed: int) -> None:
    """Print the rate of successes: the true one, the evidence's, and with outcomes that stay."""
    generator = random.Random(seed)
    n_decisions = n_successes = 0
    began_at = Clock().monotonic()
    with TemporaryDirectory(prefix="bandit-lost-counts-") as folder:
        database = Path(folder) / "bandit.db"
        arguments = (
            "-m",
            "server",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            f"sqlite:///{database}",
        )
        for life in range(kills + 1):
            is_killed = life < kills
            try:
                with running(arguments, Path(folder)) as child:
                    if life == 0:
                        _declare(child)
                    seconds = generator.uniform(0.5, 1.5) * life_seconds
                    made, successes = _use(child, rate, seconds, generator)
                    n_decisions, n_successes = n_decisions + made, n_successes + successes
                    if is_killed:
                        os.kill(child.pid, signal.SIGKILL)
                    else:
                        time.sleep(3.0)  # the last run moves what the others lost
            except ChildError:
                if not is_killed:
                    raise
        counted, kept, apart = _counted(database)
    lost = 1 - counted / n_decisions
    true, ours, without = n_successes / n_decisions, kept / counted, (kept + apart) / counted
    click.echo(
        f"{kills} kills in {Clock().monotonic() - began_at:.0f} s: {n_decisions:,} decisions, counts of "
        f"{lost:.1%} lost (l/(1-l) = {lost / (1 - lost):+.1%})\n"
        f"successes a decision: {true:.4f} in truth; {ours:.4f} ({ours / true - 1:+.1%}) as counted; "
        f"{without:.4f} ({without / true - 1:+.1%}) if outcomes stayed"
    )


if __name__ == "__main__":
    main()
