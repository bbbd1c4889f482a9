"""The rule for a launch's own bound on stale answers."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.launch.plan import LaunchPlan, Stage, StageKind
from bandit.launch.rules import broken_rules
from tests.bandit.builders import declare

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def broken(max_staleness: timedelta | None) -> list[tuple[str, str]]:
    """Return the rules that an experiment of this bound breaks."""
    plan = LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),))
    if max_staleness is not None:
        plan = replace(plan, max_staleness=max_staleness)
    return list(broken_rules(replace(declare(), launch=plan)))


@pytest.mark.parametrize("bound", [None, SECOND, HOUR])
def test_a_second_to_an_hour_is_allowed(bound: timedelta | None) -> None:
    """So is a plan that does not say it."""
    assert broken(bound) == []


@pytest.mark.parametrize("bound", [timedelta(), SECOND - timedelta.resolution, HOUR + timedelta.resolution])
def test_less_or_more_is_refused(bound: timedelta) -> None:
    """The refusal names the key and the rule."""
    rule = f"{bound} must be at least 1 second and at most 1 hour"
    assert broken(bound) == [("launch.max_staleness", rule)]
