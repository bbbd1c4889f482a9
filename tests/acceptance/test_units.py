"""Units through a real server: returning units count once, also after a crash, or decisions are counted."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.facts.units import UnitFacts, estimate_repeats
from bandit.v1 import bandit_pb2, experiment_pb2
from server.store.opening import open_reader
from tests.conftest import Connect, StartServer
from tests.support.process import verify
from tests.support.wire import Wire, experiment, metric

EVEN = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights={"a": 1, "b": 1}))


def metrics() -> list[experiment_pb2.Metric]:
    """Return a click metric with a window of a minute, and 0 for silence."""
    return [metric("click", window=Duration(seconds=60), default_value=0.0)]


def ask(wire: Wire, name: str, units: list[str]) -> list[bandit_pb2.ChooseResponse]:
    """Make a decision for each unit; an empty name makes one without a unit."""
    requests = [bandit_pb2.ChooseRequest(experiment=name, unit=unit) for unit in units]
    return [result.choice for result in wire.batch_choose(*requests)]


def click(wire: Wire, choices: list[bandit_pb2.ChooseResponse], value: float = 1, revision: int = 0) -> None:
    """Post a click for each."""
    requests = (
        bandit_pb2.RewardRequest(decision_id=c.decision_id, outcomes={"click": value}, revision=revision)
        for c in choices
    )
    assert all(result.HasField("reward") for result in wire.batch_reward(*requests))


def units_in(database: Path) -> UnitFacts:
    """Return the stored facts of the units of the first experiment."""
    with closing(open_reader(f"sqlite:///{database}")) as store:
        report = store.read_report(store.list_experiments("", 1)[0].name)
    assert report is not None
    return report.units


def test_returning_units_count_once(start_server: StartServer, connect: Connect) -> None:
    """They count once, with clicks from before and after a crash; unflushed units count when they return."""
    first = start_server("--poll-seconds", "60", "--lag-seconds", "300")  # only a report flushes
    wire = connect(first)
    units = [f"u{number}" for number in range(100)]
    name = wire.running(metrics=metrics(), policy=EVEN, analysis_unit=experiment_pb2.ANALYSIS_UNIT_UNIT)
    choices = ask(wire, name, units * 3)
    arms = Counter(choice.arm for choice in choices[:100])
    wire.report(name)
    click(wire, choices[:10])
    lost = ask(wire, name, ["lost"] * 5 + ["gone"])
    click(wire, lost)
    first.kill()

    second = start_server()
    wire = connect(second)
    click(wire, choices[100:120])  # other decisions, of the same units and of ten more
    click(wire, choices[:5], 0, revision=1)  # these clicked again, and keep that click
    click(wire, choices[105:107], 0, revision=1)
    (returned,) = ask(wire, name, ["lost"])
    lone = ask(wire, name, ["", ""])
    assert second.terminate() == 0
    verify(second.database)

    found = units_in(second.database)
    counted = Counter[str]()
    for key, count in found.facts.decisions.items():
        counted["ab"[key.arm]] += count
    for choice in (returned, *lone):
        arms[choice.arm] += 1
    assert counted == arms
    assert found.n_decisions == 300 + 1 + 2
    assert sum(tally.n for tally in found.facts.outcomes.values()) == 20
    assert sum(tally.total for tally in found.facts.outcomes.values()) == 20


def test_if_decisions_are_counted_repeats_are_estimated(start_server: StartServer, connect: Connect) -> None:
    """Units have no rows, and repeats are estimated from the spread of their decisions."""
    server = start_server()
    wire = connect(server)
    name = wire.running(metrics=metrics(), policy=EVEN)
    ask(wire, name, [f"u{number}" for number in range(50)] * 20)
    ask(wire, name, [""] * 10)
    assert server.terminate() == 0
    found = units_in(server.database)
    assert (dict(found.facts.decisions), found.n_decisions) == ({}, 0)
    estimate = estimate_repeats(found.groups)
    assert estimate.n_decisions == 1_000
    assert estimate.decisions_a_unit == pytest.approx(20, rel=0.54)


def test_the_analysis_unit_is_fixed_by_the_start(start_server: StartServer, connect: Connect) -> None:
    """A draft can change it, a running experiment can't, and an unknown value is refused with its field."""
    wire = connect(start_server())
    declared = experiment(metrics=metrics())
    assert wire.create(declared).analysis_unit == experiment_pb2.ANALYSIS_UNIT_DECISION
    declared.analysis_unit = experiment_pb2.ANALYSIS_UNIT_UNIT
    assert wire.update(declared, "analysis_unit").analysis_unit == experiment_pb2.ANALYSIS_UNIT_UNIT
    wire.start(declared.name)
    declared.analysis_unit = experiment_pb2.ANALYSIS_UNIT_DECISION
    with pytest.raises(grpc.RpcError, match="analysis_unit") as caught:
        wire.update(declared, "analysis_unit")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError, match="9 is not an analysis unit") as caught:
        wire.create(experiment(analysis_unit=9))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
