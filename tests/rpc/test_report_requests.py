"""Invalid requests of reports, field by field."""

import math

import pytest

from bandit.client import BanditClient
from bandit.v1 import experiment_pb2
from tests.support.process import ServerProcess
from tests.support.refusals import refused
from tests.support.wire import CALL_SECONDS, Wire, metric

WEIGHTS = "weights must be finite and at least 0, with a positive sum"


@pytest.fixture(scope="module")
def name(shared_wire: Wire) -> str:
    """Start an experiment with arms a and b."""
    return shared_wire.running()


def ask(wire: Wire, name: str, **request: object) -> experiment_pb2.Report:
    """Call GetReport."""
    message = experiment_pb2.GetReportRequest(name=name, **request)  # type: ignore[arg-type]  # passed on
    return wire.experiments.GetReport(message, timeout=CALL_SECONDS)


def split(**weights: float) -> experiment_pb2.StaticSplit:
    """Return a static split."""
    return experiment_pb2.StaticSplit(weights=weights)


@pytest.mark.parametrize(
    ("splits", "violations"),
    [
        pytest.param([split(z=1)], {"splits[0].weights": "'z' is not one of the arms"}, id="unknown arm"),
        pytest.param([split(a=1), split(a=-1, b=2)], {"splits[1].weights": WEIGHTS}, id="negative"),
        pytest.param([split(a=0)], {"splits[0].weights": WEIGHTS}, id="nothing"),
        pytest.param([split()], {"splits[0].weights": WEIGHTS}, id="no arms"),
        pytest.param([split(a=math.nan)], {"splits[0].weights": WEIGHTS}, id="NaN"),
        pytest.param([split(a=math.inf)], {"splits[0].weights": WEIGHTS}, id="infinite"),
        pytest.param([split(a=1e308, b=1e308)], {"splits[0].weights": WEIGHTS}, id="infinite sum"),
        pytest.param([split(a=1)] * 17, {"splits": "must be at most 16 splits, got 17"}, id="too many"),
    ],
)
def test_splits_are_checked(
    wire: Wire, name: str, splits: list[experiment_pb2.StaticSplit], violations: dict[str, str]
) -> None:
    """The refusal names each bad split."""
    assert refused(lambda: ask(wire, name, splits=splits)).violations == violations


@pytest.mark.parametrize("lift", [-1.0, -2.0, 10.5, math.nan, math.inf])
def test_a_lift_is_within_bounds(wire: Wire, name: str, lift: float) -> None:
    """A lift must be above -1 and at most 10."""
    rule = f"must be above -1 and at most 10, got {lift:g}"
    assert refused(lambda: ask(wire, name, lift=lift)).violations == {"lift": rule}


def test_the_number_of_epochs_is_not_negative(wire: Wire, name: str) -> None:
    """A negative number of epochs is refused."""
    violations = refused(lambda: ask(wire, name, max_epochs=-1)).violations
    assert violations == {"max_epochs": "must be at least 0, got -1"}


def test_the_default_split_is_even_over_the_arms_in_service(wire: Wire, name: str) -> None:
    """Until an epoch has closed, only the weights of the split are known."""
    (found,) = ask(wire, name).splits
    assert dict(found.weights) == {"a": 0.5, "b": 0.5}
    assert found.unsaid.reason == "no-window"


def test_metrics_are_chosen_by_name(wire: Wire) -> None:
    """A report has the reward metric and the named ones; the refusal names an unknown one."""
    name = wire.running(metrics=[metric("click"), metric("error"), metric("spam")])
    report = ask(wire, name, metrics=["spam"])
    assert [[each.metric for each in arm.metrics] for arm in report.arms] == [["click", "spam"]] * 2
    assert {each.metric for each in report.unsaid} == {"click", "spam"}
    violations = refused(lambda: ask(wire, name, metrics=["spam", "spin"])).violations
    assert violations == {"metrics[1]": "'spin' is not one of the metrics"}


@pytest.mark.parametrize("max_bytes", [-1, 2**28 + 1])
def test_a_size_is_within_bounds(wire: Wire, name: str, max_bytes: int) -> None:
    """max_bytes must be from 0 to 256 MiB."""
    rule = f"must be in [0, 268435456], got {max_bytes}"
    assert refused(lambda: ask(wire, name, max_bytes=max_bytes)).violations == {"max_bytes": rule}


def test_a_report_larger_than_the_caller_takes_is_refused(wire: Wire, name: str) -> None:
    """The refusal has the size and the remedy; a report within the limit is returned."""
    n_bytes = ask(wire, name).ByteSize()
    rule = refused(lambda: ask(wire, name, max_bytes=100)).violations["max_bytes"]
    assert " bytes, but at most 100 were requested: name fewer `metrics`, or raise max_bytes" in rule
    assert ask(wire, name, max_bytes=2 * n_bytes).ByteSize() <= 2 * n_bytes


def test_the_client_accepts_reports_above_the_default_limit(
    shared_process: ServerProcess, wire: Wire
) -> None:
    """The client receives a report on 1,000 arms and 40 metrics, larger than gRPC's default of 4 MiB."""
    metrics = [metric(f"m-{number}") for number in range(40)]
    arms = [experiment_pb2.Arm(id=f"arm-{number:03}-{'x' * 50}") for number in range(1_000)]
    name = wire.running(arms=arms, champion=arms[0].id, metrics=metrics, reward_metric="m-0")
    with BanditClient(shared_process.address) as client:
        report = client.experiments.report(name, timeout=3 * CALL_SECONDS)
    assert {len(arm.metrics) for arm in report.arms} == {40}
    assert report.ByteSize() > 4 * 1024 * 1024
