"""Conversion of experiments from wire to domain and back, without loss or change, and without a server."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.experiment import AnalysisUnit, Arm, Experiment
from bandit.launch.plan import (
    AfterHoldback,
    GuardrailAction,
    Holdback,
    LaunchPlan,
    Mode,
    OnInconclusive,
    OnTrouble,
    Stage,
    StageKind,
)
from bandit.limits import Limits
from bandit.metric import AbsoluteMargin, Direction, Metric, MetricKind, RelativeMargin, Role
from bandit.policies import POLICIES
from bandit.posteriors.priors import PRIORS, BetaPrior, GammaPrior, NormalInverseGammaPrior
from bandit.v1 import experiment_pb2, launch_pb2
from server.rpc.messages.experiment import (
    ANALYSIS_UNITS,
    DIRECTIONS,
    KINDS,
    ROLES,
    STATES,
    declaration_to_message,
    to_etag,
    to_experiment,
    to_revision,
)
from server.rpc.messages.plan import from_plan, to_plan
from server.rpc.messages.reader import Reader
from tests.bandit.declarations import policies

ANOTHER_SALT = b"not the one sent"

names = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positives = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
unit_floats = st.floats(0, 1)
lengths = st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=90))
payloads = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)
arms = st.builds(Arm, id=names, model_uri=texts, digest=texts, payload=payloads, is_taken_out=st.booleans())
priors = st.one_of(
    st.none(),
    st.builds(BetaPrior, positives, positives),
    st.builds(GammaPrior, positives, positives),
    st.builds(
        NormalInverseGammaPrior,
        mean=numbers,
        pseudo_observations=positives,
        shape=positives,
        scale=positives,
    ),
)
metrics = st.builds(
    Metric,
    name=names,
    kind=st.sampled_from(MetricKind),
    direction=st.sampled_from(Direction),
    minimum=numbers,
    maximum=positives,
    clip=st.booleans(),
    window=st.none() | lengths,
    default_value=st.none() | numbers,
    prior=priors,
    worse_by=st.none() | st.builds(RelativeMargin, positives) | st.builds(AbsoluteMargin, positives),
).flatmap(
    lambda metric: st.sampled_from(
        [metric, replace(metric, is_guardrail=True), replace(metric, is_signal=True)]
    )
)
limits = st.builds(
    Limits,
    minimum_share=unit_floats,
    minimum_shares=st.dictionaries(names, unit_floats, max_size=3),
    maximum_share=st.floats(0, 1, exclude_min=True),
    maximum_step_per_hour=st.none() | st.floats(0, 1, exclude_min=True),
    warm_up_decisions=st.integers(0, 2**64 - 1),
    warm_up_duration=st.none() | lengths,
    champion_minimum_share=unit_floats,
)
stages = st.builds(
    Stage,
    kind=st.sampled_from(StageKind),
    share=numbers,
    shares=st.lists(numbers, max_size=3).map(tuple),
    minimum_decisions=st.integers(0, 2**64 - 1),
    minimum_outcomes=st.integers(0, 2**64 - 1),
    minimum_duration=st.none() | lengths,
    whole_cycles=st.integers(0, 2**32 - 1),
    approval=st.booleans(),
    maximum_duration=st.none() | lengths,
)
plans = st.builds(
    LaunchPlan,
    stages=st.lists(stages, max_size=3).map(tuple),
    mode=st.sampled_from(Mode),
    cycle=lengths,
    minimum_cycles=st.integers(0, 2**32 - 1),
    holdback=st.none() | st.builds(Holdback, share=numbers, cycles=st.integers(1, 2**32 - 1)),
    guardrail_action=st.sampled_from(GuardrailAction),
    on_no_data=st.sampled_from(OnTrouble),
    on_sample_ratio_alarm=st.sampled_from(OnTrouble),
    on_inconclusive=st.sampled_from(OnInconclusive),
    after_holdback=st.sampled_from(AfterHoldback),
)
experiments = st.builds(
    Experiment,
    name=names,
    description=texts,
    arms=st.lists(arms, max_size=3).map(tuple),
    champion=names,
    policy=policies(["a", "b"]),
    metrics=st.lists(metrics, max_size=3).map(tuple),
    reward_metric=names,
    limits=limits,
    half_life=st.none() | lengths,
    lookback=st.none() | lengths,
    max_decision_age=lengths,
    salt=st.binary(min_size=16, max_size=16),
    analysis_unit=st.sampled_from(AnalysisUnit),
    launch=st.none() | plans,
)


@settings(max_examples=60)
@given(experiment=experiments)
def test_domain_to_wire_to_domain_is_identity(experiment: Experiment) -> None:
    """A stored experiment can be sent to a client and sent back as the same declaration."""
    sent = declaration_to_message(experiment).SerializeToString()
    assert to_experiment(experiment_pb2.Experiment.FromString(sent), ANOTHER_SALT) == experiment


@settings(max_examples=60)
@given(experiment=experiments)
def test_wire_to_domain_to_wire_is_identity(experiment: Experiment) -> None:
    """A message written by the service is read and written unchanged."""
    message = declaration_to_message(experiment)
    assert declaration_to_message(to_experiment(message, ANOTHER_SALT)) == message


@pytest.mark.parametrize(
    ("sent", "role"),
    [
        ({}, None),
        ({"guardrail": True}, Role.GUARDRAIL),
        ({"role": experiment_pb2.METRIC_ROLE_GUARDRAIL}, Role.GUARDRAIL),
        ({"guardrail": True, "role": experiment_pb2.METRIC_ROLE_GUARDRAIL}, Role.GUARDRAIL),
        ({"role": experiment_pb2.METRIC_ROLE_SIGNAL}, Role.SIGNAL),
    ],
)
def test_a_guardrail_is_named_by_either_field_and_sent_in_both(
    sent: Mapping[str, Any], role: Role | None
) -> None:
    """Clients from before roles set and read only the older field."""
    metric = experiment_pb2.Metric(name="error", kind=experiment_pb2.METRIC_KIND_BINARY, **sent)
    read = to_experiment(experiment_pb2.Experiment(metrics=[metric]), ANOTHER_SALT)
    assert read.metrics[0].role is role
    (back,) = declaration_to_message(read).metrics
    assert back.guardrail == (role is Role.GUARDRAIL)
    assert back.role == ROLES[role]


@given(salt=st.binary(min_size=16, max_size=16))
def test_an_experiment_without_a_salt_gets_the_new_one(salt: bytes) -> None:
    """An experiment without a salt gets the new one, and a salt, in upper or lower case, is kept."""
    message = experiment_pb2.Experiment(salt="")
    assert to_experiment(message, salt).salt == salt
    message.salt = salt.hex().upper()
    assert to_experiment(message, ANOTHER_SALT).salt == salt


@given(revision=st.integers(1, 2**31 - 1))
def test_an_etag_is_read_back(revision: int) -> None:
    """An etag is read as the revision that it was made from."""
    assert to_revision(to_etag(revision)) == revision


@given(etag=st.text(min_size=1) | st.from_regex(r"r?[0-9]+\s?"))
def test_an_etag_has_one_spelling(etag: str) -> None:
    """Any other text is not a valid etag."""
    revision = to_revision(etag)
    assert revision == -1 or to_etag(revision or 0) == etag


@pytest.mark.parametrize(("name", "kinds"), [("Policy", POLICIES), ("Prior", PRIORS)])
def test_the_protos_name_what_the_library_has(name: str, kinds: Mapping[str, type[Any]]) -> None:
    """Every policy and prior has a message, named by its kind, with the same fields."""
    sent = {
        kind.name: {field.name for field in kind.message_type.fields}
        for kind in getattr(experiment_pb2, name).DESCRIPTOR.fields
    }
    assert sent == {kind: {field.name for field in fields(known)} for kind, known in kinds.items()}


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("State", STATES),
        ("MetricKind", KINDS),
        ("Direction", DIRECTIONS),
        ("AnalysisUnit", ANALYSIS_UNITS),
    ],
)
def test_the_protos_number_what_the_library_has(name: str, numbers: Mapping[str, int]) -> None:
    """Every value of an enum but the unspecified one is one of the library's."""
    assert set(getattr(experiment_pb2, name).values()) - {0} == set(numbers.values())


@given(plan=plans)
def test_a_plan_survives_the_wire(plan: LaunchPlan) -> None:
    """Message to plan to message is the identity too, so that an applied file shows no difference."""
    message = launch_pb2.LaunchPlan.FromString(from_plan(plan).SerializeToString())
    reader = Reader()
    assert to_plan(reader, message) == plan
    assert reader.violations == []
    assert from_plan(to_plan(reader, message)) == message


def test_an_empty_plan_has_the_defaults_of_the_library() -> None:
    """What a message leaves out means what the library means by leaving it out."""
    assert to_plan(Reader(), launch_pb2.LaunchPlan()) == LaunchPlan(stages=())
    holdback = launch_pb2.LaunchPlan(holdback=launch_pb2.LaunchHoldback(share=0.1))
    assert to_plan(Reader(), holdback).holdback == Holdback(share=0.1)
    (stage,) = to_plan(
        Reader(),
        launch_pb2.LaunchPlan(stages=[launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT)]),
    ).stages
    assert stage == Stage(kind=StageKind.BANDIT)


@pytest.mark.parametrize("number", [99, -1])
@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("mode", "recommend, automatic"),
        ("guardrail_action", "rollback, recommend"),
        ("on_no_data", "hold, rollback"),
        ("on_sample_ratio_alarm", "hold, rollback"),
        ("on_inconclusive", "end, hold"),
        ("after_holdback", "continue, conclude"),
    ],
)
def test_a_choice_of_a_newer_release_is_a_violation(name: str, choices: str, number: int) -> None:
    """A number that is not known is never taken for the default: it names the field and the choices."""
    reader = Reader()
    to_plan(reader, launch_pb2.LaunchPlan(**{name: number}))  # type: ignore[arg-type]
    assert reader.violations == [(f"launch.{name}", f"must be one of {choices}")]


@pytest.mark.parametrize("number", [0, 99, -1])
def test_an_unknown_kind_of_stage_is_a_violation(number: int) -> None:
    """A stage without a kind, or of one that is not known, is refused under its place in the plan."""
    reader = Reader()
    known, unknown = (
        launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT),
        launch_pb2.LaunchStage(),
    )
    unknown.kind = number  # type: ignore[assignment]
    to_plan(reader, launch_pb2.LaunchPlan(stages=[known, unknown]))
    assert reader.violations == [("launch.stages[1].kind", "must be one of shadow, canary, ramp, bandit")]


def test_a_duration_out_of_range_is_a_violation() -> None:
    """Each duration that no clock can hold is named, and nothing is raised."""
    endless = Duration(seconds=2**62)
    stage = launch_pb2.LaunchStage(
        kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT, minimum_duration=endless, maximum_duration=endless
    )
    reader = Reader()
    to_plan(reader, launch_pb2.LaunchPlan(stages=[stage], cycle=endless))
    assert {field for field, _ in reader.violations} == {
        "launch.cycle",
        "launch.stages[0].minimum_duration",
        "launch.stages[0].maximum_duration",
    }
