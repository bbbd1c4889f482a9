"""Prometheus metrics and the log: correct counts, and no unit in either."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client.parser import text_string_to_metric_families

from bandit.v1 import bandit_pb2
from tests.conftest import Connect
from tests.support.process import FAST_LANE, LISTENERS, WITH_FAST_LANE, ServerProcess, eventually, serving
from tests.support.refusals import refused
from tests.support.wire import METHODS, Wire, metric

PERSON: Final = "alice-4711@example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, listener: str) -> Iterator[ServerProcess]:
    """Start a server that serves metrics and logs at level debug, for calls to one listener."""
    flags = ["--metrics-listen", "127.0.0.1:0", "--log-level", "debug"]
    if listener == FAST_LANE:
        flags += WITH_FAST_LANE
    with serving(tmp_path_factory.mktemp("metrics") / "bandit.db", *flags) as server:
        yield server


@pytest.fixture
def wire(server: ServerProcess, connect: Connect) -> Wire:
    """Open a channel to it."""
    return connect(server)


def calls(server: ServerProcess, method: str, code: str) -> float:
    """Return the number of calls of a method that ended with a code, from the metrics."""
    service, name = method.removeprefix("/").split("/")
    return server.sample(
        "grpc_server_handled_total",
        grpc_type="unary",
        grpc_service=service,
        grpc_method=name,
        grpc_code=code,
    )


@pytest.mark.both_listeners
def test_metrics_and_log_after_known_calls(server: ServerProcess, wire: Wire) -> None:
    """Every family matches the calls made, and neither metrics nor log have a unit or a decision id."""
    name = wire.running(metrics=[metric("click", window=Duration(seconds=3_600))])
    choices = [wire.choose(name, unit=f"{PERSON}-{number}") for number in range(30)]
    refused(lambda: wire.choose(name, unit=f"{PERSON}\n"))
    refused(lambda: wire.choose("nope"))
    for choice in choices:
        wire.reward(choice.decision_id, {"click": 1})
    wire.reward(choices[0].decision_id, {"click": 1})
    refused(lambda: wire.reward(choices[0].decision_id, {"click": 0}))
    refused(lambda: wire.reward("forged", {"click": 0}))
    wire.pause(name)
    wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 5)
    with pytest.raises(grpc.RpcError):
        wire.call("/bandit.v1.BanditService/Choose", b"\x0a")

    choose, reward = "/bandit.v1.BanditService/Choose", "/bandit.v1.BanditService/Reward"
    assert {code: calls(server, choose, code) for code in ("OK", "InvalidArgument", "NotFound")} == {
        "OK": 30,
        "InvalidArgument": 2,
        "NotFound": 1,
    }
    assert {code: calls(server, reward, code) for code in ("OK", "InvalidArgument", "AlreadyExists")} == {
        "OK": 31,
        "InvalidArgument": 1,
        "AlreadyExists": 1,
    }
    assert calls(server, "/bandit.v1.BanditService/BatchChoose", "OK") == 1
    labels = {"grpc_type": "unary", "grpc_service": "bandit.v1.BanditService", "grpc_method": "Choose"}
    assert server.sample("grpc_server_started_total", **labels) == 33
    assert server.sample("grpc_server_msg_received_total", **labels) == 33
    assert server.sample("grpc_server_msg_sent_total", **labels) == 30
    assert server.sample("grpc_server_in_flight", **labels) == 0
    assert server.sample("grpc_server_handling_seconds_count", **labels) == 33
    assert server.sample("grpc_server_handling_seconds_bucket", **labels, le="+Inf") == 33
    assert 0 < server.sample("grpc_server_handling_seconds_sum", **labels) < 33

    def decisions(arm: str, basis: str) -> float:
        return server.sample("bandit_decisions_total", experiment=name, arm=arm, basis=basis)

    eventually(lambda: decisions("a", "fallback") == 5)
    by_arm = Counter(choice.arm for choice in choices)
    assert {arm: decisions(arm, "policy") for arm in "ab"} == {arm: by_arm[arm] for arm in "ab"}
    recorded = {
        arm: server.sample(
            "bandit_outcomes_total", experiment=name, arm=arm, metric="click", result="recorded"
        )
        for arm in "ab"
    }
    assert recorded == {arm: by_arm[arm] for arm in "ab"}
    duplicate = {"experiment": name, "arm": choices[0].arm, "metric": "click", "result": "duplicate"}
    assert server.sample("bandit_outcomes_total", **duplicate) == 1
    assert server.sample("bandit_epoch", experiment=name) == 1
    assert server.sample("bandit_reward_queue_rows") == 0
    assert server.sample("bandit_store_up") == 1
    assert 0 <= server.sample("bandit_snapshot_age_seconds") < 5
    assert 30 <= server.sample("bandit_commit_outcomes_sum") <= 32
    assert 0 < server.sample("bandit_commit_seconds_count") <= 32

    page, log = server.scrape(), server.log.read_text()
    for text in (page, log):
        assert PERSON not in text
        assert not any(choice.decision_id in text for choice in choices)
    changes = [event["what"] for event in server.events() if event["event"] == "experiment.changed"]
    assert changes == ["created", "started", "paused"]
    assert not [event for event in server.events() if event["level"] in {"warning", "error", "critical"}]


def test_a_scrape_is_well_formed(server: ServerProcess) -> None:
    """Prometheus' own parser reads it, and every method is in it before its first call."""
    families = {family.name: family for family in text_string_to_metric_families(server.scrape())}
    assert families.keys() >= {
        "grpc_server_started",
        "grpc_server_handled",
        "grpc_server_handling_seconds",
        "bandit_decisions",
        "bandit_outcomes",
        "bandit_epoch",
        "bandit_reward_queue_rows",
        "bandit_commit_seconds",
        "bandit_commit_outcomes",
        "bandit_snapshot_age_seconds",
    }
    started = {
        f"/{sample.labels['grpc_service']}/{sample.labels['grpc_method']}"
        for sample in families["grpc_server_started"].samples
    }
    assert started == set(METHODS)


def test_the_log_is_json(server: ServerProcess) -> None:
    """Each line is an object with event, level and a time in UTC."""
    events = eventually(server.events, until=lambda events: len(events) >= 3)
    assert [event["event"] for event in events][:3] == ["metrics.serving", "access.open", "server.serving"]
    for event in events:
        assert event["level"] in {"debug", "info"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", event["timestamp"])


def sockets_of(pid: int) -> Iterator[str]:
    """Yield the inodes of a process's sockets, without descriptors that it closes meanwhile."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            target = link.readlink().name
            if target.startswith("socket:"):
                yield target.removeprefix("socket:[").rstrip("]")


def test_metrics_are_not_served_by_default(shared_process: ServerProcess) -> None:
    """The process listens on the ports for calls only."""
    inodes = set(sockets_of(shared_process.process.pid))
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.add(int(fields[1].rpartition(":")[2], 16))
    assert listening == {shared_process.port_of(listener) for listener in LISTENERS}
