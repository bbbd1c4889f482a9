"""The client against the real service, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandit.client import BanditClient, Fallback, InvalidArgumentError, OutcomeResult, RetryPolicy
from bandit.v1 import experiment_pb2

EXPERIMENT = experiment_pb2.Experiment(
    name="ranker",
    arms=[experiment_pb2.Arm(id="v1", model_uri="s3://v1"), experiment_pb2.Arm(id="v2", model_uri="s3://v2")],
    champion="v1",
    metrics=[experiment_pb2.Metric(name="click", kind=experiment_pb2.METRIC_KIND_BINARY)],
    reward_metric="click",
)


class Service:
    """A service that can be killed and started again on its port and file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.target = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Serves; returns once it listens."""
        database = f"sqlite:///{self._folder / 'bandit.db'}"
        command = [sys.executable, "-m", "server", "serve", "--listen", self.target, "--database", database]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        self.target = self._process.stdout.readline().split()[-1]

    def kill(self) -> None:
        """Ends it without a farewell."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service, with an empty database."""
    started = Service(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def client(service: Service) -> Iterator[BanditClient]:
    """A client of it, with the experiment running."""
    with BanditClient(service.target, choose_timeout=10.0, retry=RetryPolicy(timeout=60.0)) as opened:
        opened.experiments.create(EXPERIMENT)
        opened.experiments.start("ranker")
        yield opened


def test_choice_is_rewarded_once(client: BanditClient, fallback: Fallback) -> None:
    """The service's choice arrives whole, and its reward is recorded once however often it is posted."""
    choice = client.choose("ranker", unit="user-1", fallback=fallback)
    assert (choice.is_fallback, choice.propensity, choice.epoch) == (False, 0.5, 1)
    assert choice.model_uri == f"s3://{choice.arm}"
    posted = [client.reward(choice, {"click": 1.0}).metric_to_result["click"] for _ in range(2)]
    assert posted == [OutcomeResult.RECORDED, OutcomeResult.DUPLICATE]


def test_violations_arrive(client: BanditClient, fallback: Fallback) -> None:
    """The service's field violations are in the typed error."""
    choice = client.choose("ranker", fallback=fallback)
    with pytest.raises(InvalidArgumentError) as raised:
        client.reward(choice, {"click": 2.0})
    assert [violation.field for violation in raised.value.field_violations] == ["outcomes['click']"]


def test_reward_survives_a_restart(client: BanditClient, service: Service, fallback: Fallback) -> None:
    """A service that is killed costs a fallback while it is down, and no reward once it is back."""
    choice = client.choose("ranker", unit="user-1", fallback=fallback)
    service.kill()
    assert client.choose("ranker", unit="user-1", fallback=fallback).is_fallback
    service.start()
    assert client.reward(choice, {"click": 1.0}).metric_to_result == {"click": OutcomeResult.RECORDED}
    assert client.choose("ranker", unit="user-1", fallback=fallback).arm == choice.arm
