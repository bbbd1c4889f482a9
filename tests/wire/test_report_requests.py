"""What a report can't be asked for, field by field."""

import math

import pytest

from bandit.v1 import experiment_pb2
from tests.support.refusals import refused
from tests.support.wire import CALL_SECONDS, Wire

WEIGHTS = "weights must be finite and at least 0, with a positive sum"


@pytest.fixture(scope="module")
def name(shared_wire: Wire) -> str:
    """A running experiment with arms a and b."""
    return shared_wire.running()


def ask(wire: Wire, name: str, **request: object) -> experiment_pb2.Report:
    """GetReport."""
    message = experiment_pb2.GetReportRequest(name=name, **request)  # type: ignore[arg-type]  # passed on
    return wire.experiments.GetReport(message, timeout=CALL_SECONDS)


def split(**weights: float) -> experiment_pb2.StaticSplit:
    """A static split."""
    return experiment_pb2.StaticSplit(weights=weights)


@pytest.mark.parametrize(
    ("splits", "violations"),
    [
        pytest.param([split(z=1)], {"splits[0].weights": "'z' is none of the arms"}, id="unknown arm"),
        pytest.param([split(a=1), split(a=-1, b=2)], {"splits[1].weights": WEIGHTS}, id="negative"),
        pytest.param([split(a=0)], {"splits[0].weights": WEIGHTS}, id="nothing"),
        pytest.param([split()], {"splits[0].weights": WEIGHTS}, id="no arms"),
        pytest.param([split(a=math.nan)], {"splits[0].weights": WEIGHTS}, id="NaN"),
        pytest.param([split(a=math.inf)], {"splits[0].weights": WEIGHTS}, id="infinite"),
        pytest.param([split(a=1e308, b=1e308)], {"splits[0].weights": WEIGHTS}, id="infinite sum"),
        pytest.param([split(a=1)] * 17, {"splits": "17 splits; there may be at most 16"}, id="too many"),
    ],
)
def test_splits_are_checked(
    wire: Wire, name: str, splits: list[experiment_pb2.StaticSplit], violations: dict[str, str]
) -> None:
    """Each bad split is named."""
    assert refused(lambda: ask(wire, name, splits=splits)).violations == violations


@pytest.mark.parametrize("lift", [-1.0, -2.0, 10.5, math.nan, math.inf])
def test_a_lift_is_within_bounds(wire: Wire, name: str, lift: float) -> None:
    """Not all of it, and not beyond eleven-fold."""
    rule = "must be above -1 and at most 10"
    assert refused(lambda: ask(wire, name, lift=lift)).violations == {"lift": f"{lift:g} {rule}"}


def test_epochs_are_counted_from_none(wire: Wire, name: str) -> None:
    """A negative number of them is refused."""
    violations = refused(lambda: ask(wire, name, max_epochs=-1)).violations
    assert violations == {"max_epochs": "-1 must be at least 0"}


def test_the_default_split_is_even_over_the_arms_in_service(wire: Wire, name: str) -> None:
    """Until something has closed, only its weights are known."""
    (found,) = ask(wire, name).splits
    assert dict(found.weights) == {"a": 0.5, "b": 0.5}
    assert found.unsaid.reason == "no-window"
