"""A launch's own bound on stale answers: in a file, over the wire and in the store."""

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1.launch_pb2 import LAUNCH_STAGE_KIND_BANDIT, LaunchPlan, LaunchStage
from server.cli.experiment_file.file import format_experiment, parse_experiment
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment


def plan(bound: Duration | None) -> LaunchPlan:
    """Return a plan with this bound."""
    return LaunchPlan(stages=[LaunchStage(kind=LAUNCH_STAGE_KIND_BANDIT)], max_staleness=bound)


@pytest.mark.parametrize("seconds", [1, 90, 3_600])
def test_a_bound_comes_back_as_it_was_stored(wire: Wire, seconds: int) -> None:
    """What a file says reaches the store, and comes back."""
    text = format_experiment(experiment(launch=plan(Duration(seconds=seconds))))
    assert "max_staleness = " in text
    declared = parse_experiment(text)
    wire.create(declared)
    assert wire.get(declared.name).launch.max_staleness == Duration(seconds=seconds)


@pytest.mark.parametrize("bound", [None, Duration(seconds=60)])
def test_the_default_is_a_minute(wire: Wire, bound: Duration | None) -> None:
    """A plan that says nothing, and one that says the default, come back without it."""
    declared = experiment(launch=plan(bound))
    wire.create(declared)
    assert not wire.get(declared.name).launch.HasField("max_staleness")


def test_a_bound_that_breaks_the_rule_is_refused(wire: Wire) -> None:
    """The refusal names the field and the rule."""
    violations = refused(lambda: wire.create(experiment(launch=plan(Duration())))).violations
    assert "must be at least 1 second and at most 1 hour" in violations["launch.max_staleness"]
