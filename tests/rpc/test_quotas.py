"""Quotas of experiments, arms and metric series: more are refused, or summed."""

import re
from typing import Final

import grpc
import pytest

from bandit.v1 import experiment_pb2
from tests.conftest import Connect, StartServer
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment

BEYOND: Final = (grpc.StatusCode.FAILED_PRECONDITION, "QUOTA_REACHED", None)


@pytest.fixture
def wire(start_server: StartServer, connect: Connect) -> Wire:
    """Start a server that allows two experiments per namespace, and three arms per experiment."""
    return connect(start_server("--max-experiments", "2", "--max-arms", "3"))


def arms(n_arms: int) -> list[experiment_pb2.Arm]:
    """Return `n_arms` arms, champion first."""
    return [experiment_pb2.Arm(id=f"a{number}" if number else "a") for number in range(n_arms)]


def test_a_full_namespace_accepts_no_experiment(wire: Wire) -> None:
    """The third experiment is refused, other namespaces accept it, and deleting one makes room."""
    for name in ("one", "team/one", "team/two"):
        wire.create(experiment(name=name))
    refusal = refused(lambda: wire.create(experiment(name="team/three")))
    assert (refusal.code, refusal.reason, refusal.retry_seconds) == BEYOND
    assert "namespace 'team' has 2 experiments, the most that this server allows" in refusal.message
    wire.create(experiment(name="teams/one"))
    wire.create(experiment(name="two"))
    assert (
        "there are 2 experiments, the most" in refused(lambda: wire.create(experiment(name="three"))).message
    )
    wire.delete("team/one")
    wire.create(experiment(name="team/three"))


def test_an_experiment_has_no_more_arms_than_are_allowed(wire: Wire) -> None:
    """An experiment can neither be created with too many arms nor changed to have them."""
    refusal = refused(lambda: wire.create(experiment(arms=arms(4))))
    assert (refusal.code, refusal.reason, refusal.retry_seconds) == BEYOND
    declared = wire.create(experiment(arms=arms(3)))
    declared.arms.extend(arms(4)[3:])
    assert refused(lambda: wire.update(declared, "arms")).reason == "QUOTA_REACHED"


def test_an_experiment_from_before_the_limit_can_still_be_changed(
    start_server: StartServer, connect: Connect
) -> None:
    """An experiment with more arms than are allowed now keeps them, but can't add any."""
    first = start_server()
    declared = connect(first).create(experiment(arms=arms(5)))
    assert first.terminate() == 0
    wire = connect(start_server("--max-arms", "3"))
    declared.description = "changed"
    declared = wire.update(declared, "description")
    declared.arms.extend(arms(6)[5:])
    assert refused(lambda: wire.update(declared, "arms")).reason == "QUOTA_REACHED"


def test_series_beyond_the_limit_are_summed(start_server: StartServer, connect: Connect) -> None:
    """A namespace gets half of 100 series; its other arms are summed as (other), without losing decisions."""
    server = start_server("--max-metric-series", "100", "--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running(arms=arms(120))
    for arm in arms(120):
        wire.reward(wire.choose(name, eligible_arms=[arm.id]).decision_id, {"click": 1.0})
    apart = wire.running(name="team/apart")
    wire.choose(apart, eligible_arms=["b"])
    wire.report(name)
    page = server.scrape()
    for family in ("bandit_decisions_total", "bandit_outcomes_total"):
        own = re.findall(rf'^{family}{{.*experiment="{name}".*}} (\S+)$', page, re.MULTILINE)
        (rest,) = re.findall(rf'^{family}{{.*experiment="\(other\)".*}} (\S+)$', page, re.MULTILINE)
        assert (len(own), float(rest)) == (50, 70.0)
    assert re.search(r'^bandit_decisions_total{.*experiment="team/apart".*} 1.0$', page, re.MULTILINE)
    assert server.scrape().count("\n") == page.count("\n")
