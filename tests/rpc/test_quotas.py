"""How many experiments, arms and series of metrics there may be: what is beyond is refused, or summed."""

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
    """A server that allows two experiments in a namespace, and three arms in an experiment."""
    return connect(start_server("--max-experiments", "2", "--max-arms", "3"))


def arms(n_arms: int) -> list[experiment_pb2.Arm]:
    """So many arms, the champion first."""
    return [experiment_pb2.Arm(id=f"a{number}" if number else "a") for number in range(n_arms)]


def test_a_full_namespace_takes_no_experiment(wire: Wire) -> None:
    """The third is refused, in other namespaces it is taken, and a deleted one makes room."""
    for name in ("one", "team/one", "team/two"):
        wire.create(experiment(name=name))
    refusal = refused(lambda: wire.create(experiment(name="team/three")))
    assert (refusal.code, refusal.reason, refusal.retry_seconds) == BEYOND
    assert "namespace 'team' holds 2 experiments already" in refusal.message
    wire.create(experiment(name="teams/one"))
    wire.create(experiment(name="two"))
    assert "there are 2 experiments already" in refused(lambda: wire.create(experiment(name="three"))).message
    wire.delete("team/one")
    wire.create(experiment(name="team/three"))


def test_an_experiment_has_no_more_arms_than_are_allowed(wire: Wire) -> None:
    """Neither created with too many, nor changed to have more."""
    refusal = refused(lambda: wire.create(experiment(arms=arms(4))))
    assert (refusal.code, refusal.reason, refusal.retry_seconds) == BEYOND
    declared = wire.create(experiment(arms=arms(3)))
    declared.arms.extend(arms(4)[3:])
    assert refused(lambda: wire.update(declared, "arms")).reason == "QUOTA_REACHED"


def test_an_experiment_of_before_the_limit_can_still_be_changed(
    start_server: StartServer, connect: Connect
) -> None:
    """One that has more arms than are allowed now may keep them, and gets no more."""
    first = start_server()
    declared = connect(first).create(experiment(arms=arms(5)))
    assert first.terminate() == 0
    wire = connect(start_server("--max-arms", "3"))
    declared.description = "changed"
    declared = wire.update(declared, "description")
    declared.arms.extend(arms(6)[5:])
    assert refused(lambda: wire.update(declared, "arms")).reason == "QUOTA_REACHED"


def test_series_beyond_the_limit_are_summed(start_server: StartServer, connect: Connect) -> None:
    """A namespace takes half of 100; its other arms are summed as (other), and no decision is missing."""
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
