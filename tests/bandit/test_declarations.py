"""Every declaration that passes validation can be allocated, so none stops an experiment later."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.allocation import allocate
from bandit.experiment import Experiment
from bandit.facts import Facts, OutcomeKey, Tally
from bandit.launch.plan import StageKind
from bandit.launch.state import CHAMPION, ON_ITS_WAY, ArmState, Launch
from bandit.metric import Metric, MetricKind
from bandit.validation import require_valid
from tests.bandit.builders import START, decision_key, make_epoch, outcome_key, stand
from tests.bandit.declarations import experiments, launched

YEAR = timedelta(days=365)


@st.composite
def tallies(draw: st.DrawFn, metric: Metric) -> Tally:
    """Tallies of outcomes at the ends of a metric's range, and one between."""
    low, high = metric.quantise(metric.minimum), metric.quantise(metric.maximum)
    values = {low: draw(st.integers(0, 2**20)), high: draw(st.integers(0, 2**20))}
    middle = (low + high) // 2
    values[middle] = values.get(middle, 0) + draw(st.integers(0, 1))
    return Tally(
        n=sum(values.values()),
        total=sum(quanta * count for quanta, count in values.items()),
        squares=sum(quanta**2 * count for quanta, count in values.items()),
    )


@st.composite
def facts_of(draw: st.DrawFn, experiment: Experiment) -> Facts:
    """Facts of one epoch that closed long ago, extreme in number and value."""
    outcomes: dict[OutcomeKey, Tally] = {}
    for number, metric in enumerate(experiment.metrics):
        for arm in range(len(experiment.arms)):
            outcomes[outcome_key(1, arm, metric=number)] = draw(tallies(metric))
    decisions = {decision_key(1, arm): draw(st.integers(0, 2**22)) for arm in range(len(experiment.arms))}
    return Facts(decisions=decisions, outcomes=outcomes)


def test_the_strategy_makes_valid_declarations_of_every_kind() -> None:
    """The strategy keeps every rule and reaches every kind, so the property below is not vacuous."""
    seen: set[MetricKind] = set()

    @settings(max_examples=40)
    @given(experiments())
    def look(experiment: Experiment) -> None:
        require_valid(experiment)
        seen.update(metric.kind for metric in experiment.metrics)

    look()
    assert seen == set(MetricKind)


def test_the_strategy_makes_launches_in_every_role() -> None:
    """Plans keep every rule and have every kind of stage; arms wait, walk, become champion and leave."""
    kinds: set[StageKind] = set()
    seen: set[ArmState] = set()

    @settings(max_examples=150)
    @given(experiments(has_launch=True).flatmap(launched))
    def look(found: tuple[Experiment, Launch | None]) -> None:
        experiment, launch = found
        require_valid(experiment)
        assert experiment.launch is not None
        assert launch is not None
        kinds.update(stage.kind for stage in experiment.launch.stages)
        seen.update(arm.state for arm in launch.arms.values())

    look()
    assert kinds == set(StageKind)
    assert seen >= {ArmState.WAITING, *ON_ITS_WAY, ArmState.HOLDBACK, *CHAMPION, ArmState.ROLLED_BACK}


@settings(max_examples=60)
@given(data=st.data())
def test_every_valid_declaration_can_be_allocated(data: st.DataObject) -> None:
    """A valid experiment has shares that sum to 1, before its first outcome and after extreme ones."""
    experiment, launch = data.draw(experiments().flatmap(launched))
    first = allocate(stand(experiment, launch=launch))
    assert sum(first.shares.values()) == pytest.approx(1, abs=1e-9)
    epochs = [make_epoch(1, shares=first.shares), make_epoch(2, START + YEAR / 12, shares=first.shares)]
    facts = data.draw(facts_of(experiment))
    later = allocate(stand(experiment, epochs, facts, now=START + YEAR, launch=launch))
    assert sum(later.shares.values()) == pytest.approx(1, abs=1e-9)
    assert min(later.shares.values()) >= 0
