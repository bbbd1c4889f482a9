"""Declarations as JSON documents: any valid declaration comes back as it was stored."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.experiment import Arm, Experiment, PriorFrom
from bandit.launch.launching import Launching
from bandit.launch.moves import promoted, rolled_back
from bandit.launch.state import ArmState, Launch
from bandit.limits import Limits
from bandit.metric import AbsoluteMargin, Metric, RelativeMargin
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior
from bandit.validation import LONGEST_MEMORY
from server.store.declaration_json import (
    WRITTEN_ALWAYS,
    Declaration,
    DocumentError,
    from_document,
    new_keys,
    to_document,
    without_new_defaults,
)
from tests.bandit.builders import declare
from tests.bandit.declarations import experiments, launched, names
from tests.bandit.launch.launches import declare_launch, in_bandit, occasion, underway

moments = st.builds(OutcomeMoments, st.floats(0, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e9))
numbers = st.dictionaries(names, st.integers(0, 2**31), max_size=4)


@settings(max_examples=50)
@given(
    found=experiments().flatmap(launched),
    arm_numbers=numbers,
    metric_numbers=numbers,
    winner=st.none() | names,
    taken_priors=st.dictionaries(names, st.dictionaries(names, moments, max_size=2), max_size=2),
    is_draft=st.booleans(),
)
def test_a_document_reads_as_it_was_written(
    found: tuple[Experiment, Launch | None],
    arm_numbers: dict[str, int],
    metric_numbers: dict[str, int],
    winner: str | None,
    taken_priors: dict[str, dict[str, OutcomeMoments]],
    *,
    is_draft: bool,
) -> None:
    """Writing and reading is the identity on every valid declaration, to the last digit and microsecond."""
    experiment, launch = found
    declaration = Declaration(
        experiment=experiment,
        arm_numbers=arm_numbers,
        metric_numbers=metric_numbers,
        winner=winner,
        launch=None if is_draft else launch,
        taken_priors=taken_priors,
    )
    document = to_document(declaration)
    assert from_document(document) == declaration
    assert to_document(from_document(document)) == document
    json.loads(document, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_durations_keep_their_microseconds() -> None:
    """The longest durations that may be declared come back exact."""
    longest = LONGEST_MEMORY - timedelta(microseconds=1)
    metric = Metric(name="x", window=timedelta(days=89, microseconds=999_999), default_value=0.1 + 0.2)
    experiment = declare(metrics=[metric], half_life=longest, lookback=timedelta(microseconds=1))
    declaration = Declaration(experiment=experiment, arm_numbers={}, metric_numbers={}, winner=None)
    assert from_document(to_document(declaration)).experiment == experiment


def document_of(experiment: Experiment) -> dict[str, Any]:
    """Return the JSON document of an experiment."""
    body = json.loads(
        to_document(Declaration(experiment=experiment, arm_numbers={}, metric_numbers={}, winner=None))
    )
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        (("arms", 0, "weight"), "arms[0].weight"),
        (("metrics", 0, "resolution"), "metrics[0].resolution"),
        (("limits", "champion_maximum_share"), "limits.champion_maximum_share"),
        (("policy", "temperature"), "policy.temperature"),
        (("metrics", 0, "prior", "shift"), "metrics[0].prior.shift"),
        (("metrics", 0, "worse_by", "of"), "metrics[0].worse_by.of"),
        (("arms", 1, "prior_from", "decay"), "arms[1].prior_from.decay"),
    ],
)
def test_a_nested_key_of_a_newer_release_is_named_and_left_out(path: tuple[Any, ...], unknown: str) -> None:
    """Wherever it is nested, the rest of the declaration is read as if the key were not there."""
    margin = RelativeMargin(0.1)
    experiment = declare(
        arms=[Arm(id="a"), Arm(id="b", prior_from=PriorFrom("a", 0.1))],
        metrics=[Metric(name="click", prior=BetaPrior(1.0, 1.0), worse_by=margin)],
    )
    body = document_of(experiment)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if path[-1] == "resolution":  # not a key of any release
        path, unknown = (*path[:-1], "of a newer release"), "metrics[0].of a newer release"
    place[path[-1]] = 0.5
    found = from_document(json.dumps(body))
    assert found.unknown == (unknown,)
    assert found.experiment == experiment


def test_a_margin_of_a_newer_release_is_named() -> None:
    """A kind of margin that is not known is named, and the metric is read without it."""
    experiment = declare(metrics=[Metric(name="click", worse_by=RelativeMargin(0.1))])
    body = document_of(experiment)
    body["metrics"][0]["worse_by"] = {"deviations": 2.0}
    found = from_document(json.dumps(body))
    assert found.unknown == ("metrics[0].worse_by.deviations",)
    assert found.experiment.metrics == (Metric(name="click"),)


def test_roles_and_margins_are_written_only_where_they_say_something() -> None:
    """A document without a signal or margin has only keys that every release reads; new keys are known."""
    plain = Metric(name="a", is_guardrail=True)
    signal = Metric(name="b", is_signal=True, worse_by=AbsoluteMargin(0.5))
    plain_body, signal_body = document_of(declare(metrics=[plain, signal]))["metrics"]
    assert set(plain_body) == WRITTEN_ALWAYS[Metric]
    assert set(signal_body) == WRITTEN_ALWAYS[Metric] | {"is_signal", "worse_by"}
    assert signal_body["worse_by"] == {"absolute": 0.5}
    assert [new_keys(metric, Metric) for metric in (plain, signal)] == [
        frozenset(),
        {"is_signal", "worse_by"},
    ]


def test_a_policy_of_a_newer_release_is_named() -> None:
    """A kind of policy that is not known does not keep the declaration from being read."""
    body = document_of(declare())
    body["policy"] = {"kind": "top_two"}
    assert from_document(json.dumps(body)).unknown == ("policy.kind=top_two",)


def test_a_key_at_the_top_is_ignored() -> None:
    """At the top, every release ignores what it does not know."""
    body = document_of(declare()) | {"schedule": {"stage": "canary"}}
    found = from_document(json.dumps(body))
    assert found.unknown == ()
    assert found.experiment == declare()


def test_an_unreadable_document_is_an_error_of_its_own() -> None:
    """A document that lacks what every release writes is refused as a whole, and the error names it."""
    body = document_of(declare())
    body["metrics"][0]["kind"] = "vector"
    with pytest.raises(DocumentError):
        from_document(json.dumps(body))


def test_a_nested_key_at_its_default_is_not_written() -> None:
    """A field that a later release adds is left out of the document until it differs from its default."""

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class NewerArm(Arm):
        weight: float = 1.0
        tags: tuple[str, ...] = ()

    plain, heavy = NewerArm(id="a"), NewerArm(id="b", weight=2.0)
    assert set(without_new_defaults(plain, dataclasses.asdict(plain), Arm)) == WRITTEN_ALWAYS[Arm]
    assert set(without_new_defaults(heavy, dataclasses.asdict(heavy), Arm)) == {
        *WRITTEN_ALWAYS[Arm],
        "weight",
    }


def launch_document(launching: Launching) -> dict[str, Any]:
    """Return the JSON document of an experiment in its launch."""
    declaration = Declaration(
        experiment=launching.experiment,
        arm_numbers={},
        metric_numbers={},
        winner=None,
        launch=launching.launch,
    )
    body = json.loads(to_document(declaration))
    assert from_document(json.dumps(body)) == declaration
    assert isinstance(body, dict)
    return body


def test_arms_out_of_service_are_taken_out_for_code_that_knows_no_launches() -> None:
    """Each such arm is written as taken out, and reads back as declared; all others as they are."""
    arms: list[str | Arm] = ["a", "b", "c", "d", Arm(id="e", is_taken_out=True)]
    launching = rolled_back(underway(declare_launch(arms)), "c", occasion(3))
    body = launch_document(launching)
    assert {arm["id"] for arm in body["arms"] if arm["is_taken_out"]} == {"c", "e"}
    assert body["launch"]["taken_out"] == ["e"]
    found = from_document(json.dumps(body)).experiment
    assert {arm.id for arm in found.arms if arm.is_taken_out} == {"e"}


def test_code_that_knows_no_launches_reads_the_rest() -> None:
    """Without its key, a document in a launch has no key that the previous release does not know."""
    body = launch_document(underway(declare_launch(limits=Limits())))
    without = {key: value for key, value in body.items() if key != "launch"}
    assert set(without) == set(document_of(declare()))
    assert all(set(arm) == WRITTEN_ALWAYS[Arm] for arm in without["arms"])
    assert set(without["limits"]) == WRITTEN_ALWAYS[Limits]
    found = from_document(json.dumps(without))
    assert (found.unknown, found.launch, found.experiment.launch) == ((), None, None)


def test_an_experiment_without_a_launch_has_no_key_for_one() -> None:
    """Documents of experiments without a launch are what they were before there were launches."""
    body = document_of(declare())
    assert "launch" not in body
    assert set(body["limits"]) == WRITTEN_ALWAYS[Limits]
    assert "champion_minimum_share" in launch_document(underway())["launch"]


def test_a_promotion_is_in_the_document() -> None:
    """The current champion stands where old code looks for it; the declared and the former one beside it."""
    body = launch_document(promoted(in_bandit("b"), "b", occasion(3)))
    assert body["champion"] == "b"
    state = body["launch"]["state"]
    assert (state["declared_champion"], state["former_champion"]) == ("a", "a")
    assert state["holdback"] == {"share": 0.05, "cycles": 1}
    assert state["arms"]["a"]["state"] == ArmState.HOLDBACK


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        (("launch", "plan", "segments"), "launch.plan.segments"),
        (("launch", "plan", "stages", 0, "mirror"), "launch.plan.stages[0].mirror"),
        (("launch", "plan", "holdback", "weeks"), "launch.holdback.weeks"),
        (("launch", "state", "paused"), "launch.state.paused"),
        (("launch", "state", "arms", "b", "signal"), "launch.state.arms.b.signal"),
        (("launch", "state", "arms", "b", "stages", 0, "mirror"), "launch.state.arms.b.stages[0].mirror"),
    ],
)
def test_a_newer_key_of_a_launch_is_named(path: tuple[Any, ...], unknown: str) -> None:
    """The rest of the launch is read, and the experiment is known to be understood in part."""
    launching = underway()
    body = launch_document(launching)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 0.5
    found = from_document(json.dumps(body))
    assert found.unknown == (unknown,)
    assert (found.experiment, found.launch) == (launching.experiment, launching.launch)
