"""The guardrails that `serve` posts, on the real service: what they count, and what counts as no answer."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bandit.client import BanditClient, Fallback, Reward
from bandit.v1 import experiment_pb2
from server.cli.experiment_file.file import parse_experiment
from tests.docs.pages import ROOT, Page
from tests.support.process import eventually, serving

V0 = Fallback("v0")
PAGE = Page(ROOT / "server" / "docs" / "experiments.md")
TOP = """
name = "{name}"
champion = "v1"
reward_metric = "click"

[[arms]]
id = "v1"

[[metrics]]
name = "click"
kind = "binary"

"""


def documented(**changes: str) -> str:
    """Return the page's example of the three guardrails, with other values."""
    [example] = [block for block in PAGE.blocks("toml") if '"no_answer"' in block]
    for key, value in {"window": '"2s"', **changes}.items():
        example = re.sub(rf"^{key} = \S+", f"{key} = {value}", example, flags=re.MULTILINE)
    return example


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BanditClient]:
    """A client of a server whose epochs close soon after their windows."""
    flags = ("--lag-seconds", "0.2", "--poll-seconds", "0.05", "--epoch-interval-seconds", "0.05")
    with (
        serving(tmp_path_factory.mktemp("guardrails") / "bandit.db", *flags) as server,
        BanditClient(server.address, choose_timeout=30.0) as opened,
    ):
        yield opened


def start(client: BanditClient, name: str, guardrails: str) -> None:
    """Create an experiment with these metrics and start it."""
    client.experiments.create(parse_experiment(TOP.format(name=name) + guardrails, name))
    client.experiments.start(name)


def read(client: BanditClient, name: str) -> dict[str, experiment_pb2.MetricReport]:
    """Return what is known of the metrics of the only arm."""
    [arm] = client.experiments.report(name).arms
    return {metric.metric: metric for metric in arm.metrics}


def test_silence_is_no_answer(client: BanditClient) -> None:
    """Once the window has closed, blocks have their errors and latencies, and other decisions no answer."""
    start(client, "ranker", documented())
    for number in range(20):
        with suppress(ZeroDivisionError), client.serve("ranker", unit=f"user-{number}", fallback=V0):
            if number < 5:
                raise ZeroDivisionError
    with suppress(KeyboardInterrupt), client.serve("ranker", unit="impatient", fallback=V0):
        raise KeyboardInterrupt
    for number in range(8):
        client.choose("ranker", unit=f"silent-{number}", fallback=V0)
    by_hand = client.choose("ranker", unit="by hand", fallback=V0)
    client.reward(by_hand, {"no_answer": 0})

    found = eventually(
        lambda: read(client, "ranker"), until=lambda found: found["no_answer"].observations == 30
    )
    assert found["no_answer"].mean == pytest.approx(9 / 30)
    assert found["error"].observations == 20
    assert found["error"].mean == pytest.approx(5 / 20)
    assert found["latency_ms"].observations == 20
    assert 0 < found["latency_ms"].mean < 2_000


def test_latency_beyond_the_range(client: BanditClient) -> None:
    """A metric that does not clip refuses a latency: that is counted, and error and answer are recorded."""
    before = client.counts
    start(client, "narrow", documented(clip="false", maximum="50"))
    with client.serve("narrow", unit="slow", fallback=V0):
        time.sleep(0.06)
    with client.serve("narrow", unit="quick", fallback=V0, longest_ms=50):
        pass
    eventually(lambda: client.counts.n_posted - before.n_posted, until=lambda n: n == 5)
    assert client.counts.n_refused - before.n_refused == 1
    found = read(client, "narrow")
    outcomes = {
        name: metric.outcomes + metric.open_outcomes for name, metric in found.items() if name != "click"
    }
    assert outcomes == {"latency_ms": 1, "error": 2, "no_answer": 2}


def test_undeclared_guardrails(client: BanditClient) -> None:
    """An experiment without the metrics is served as any other, and nothing is posted or refused."""
    before = client.counts
    start(client, "bare", "")
    for _ in range(3):
        with client.serve("bare", fallback=V0):
            pass
    eventually(lambda: client._posts._postings._experiment_to_undeclared.get("bare"))
    assert client.counts == before


def test_late_posts_are_counted(client: BanditClient) -> None:
    """A reward after its window is recorded as late, and counted by the client."""
    before = client.counts.n_late
    start(client, "late", documented(window='"1ms"'))
    choice = client.choose("late", unit="user-1", fallback=V0)
    time.sleep(0.05)
    client.reward(choice, {"error": 0})
    client.batch_reward([Reward(choice, {"no_answer": 0})])
    assert client.counts.n_late - before == 2
