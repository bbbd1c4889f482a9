"""ExperimentService, every RPC and every field, as an operator uses it."""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import evidence_pb2, experiment_pb2
from tests.rpc.plans import full_plan
from tests.support.process import eventually
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment, metric

OUTPUT_ONLY = {
    "state",
    "winner",
    "etag",
    "create_time",
    "update_time",
    "start_time",
    "conclude_time",
    "epoch",
    "launch_status",
    "taken_priors",
}


def declared(message: experiment_pb2.Experiment) -> experiment_pb2.Experiment:
    """Return the declared fields of an experiment, without output-only ones."""
    copy = experiment_pb2.Experiment()
    copy.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.name in OUTPUT_ONLY:
            copy.ClearField(field.name)  # type: ignore[arg-type]  # the stub knows literal names only
    return copy


def full_experiment() -> experiment_pb2.Experiment:
    """Return an experiment with every field set, and none to its default."""
    arm = experiment_pb2.Arm(id="a", model_uri="s3://m/1", digest="sha256:00")
    arm.payload.update({"temperature": 0.2, "tags": ["x", None, True, {"deep": "é"}]})
    source = experiment_pb2.PriorFrom(arm="a", weight=0.25)
    taker = experiment_pb2.Arm(id="c", prior_from=source)
    prior = experiment_pb2.NormalInverseGammaPrior(mean=1, pseudo_observations=2, shape=3, scale=4)
    return experiment(
        description="Which ranker? “v2”, we hope.",
        arms=[arm, experiment_pb2.Arm(id="b", taken_out=True), taker],
        champion="c",
        policy=experiment_pb2.Policy(
            epsilon_greedy=experiment_pb2.EpsilonGreedy(epsilon=0.25, decay_observations=1_000)
        ),
        metrics=[
            metric(
                "spend",
                kind=experiment_pb2.METRIC_KIND_REAL,
                direction=experiment_pb2.DIRECTION_MINIMIZE,
                minimum=-1.5,
                maximum=7,
                clip=True,
                window=Duration(seconds=3_600, nanos=5_000_000),
                default_value=0.0,
                prior=experiment_pb2.Prior(normal_inverse_gamma=prior),
            ),
            metric(
                "errors",
                kind=experiment_pb2.METRIC_KIND_COUNT,
                direction=experiment_pb2.DIRECTION_MINIMIZE,
                maximum=9,
                window=Duration(seconds=60),
                guardrail=True,
                role=experiment_pb2.METRIC_ROLE_GUARDRAIL,
                worse_by=experiment_pb2.Margin(relative=0.5),
                prior=experiment_pb2.Prior(gamma=experiment_pb2.GammaPrior(shape=2, rate=5)),
            ),
            metric(
                "click",
                direction=experiment_pb2.DIRECTION_MAXIMIZE,
                maximum=1,
                prior=experiment_pb2.Prior(beta=experiment_pb2.BetaPrior(alpha=3, beta=7)),
            ),
        ],
        reward_metric="spend",
        limits=experiment_pb2.Limits(
            minimum_share=0.05,
            minimum_shares={"c": 0.2},
            maximum_share=0.9,
            maximum_step_per_hour=0.5,
            warm_up_decisions=100,
            warm_up_duration=Duration(seconds=60),
        ),
        half_life=Duration(seconds=86_400),
        lookback=Duration(seconds=864_000),
        max_decision_age=Duration(seconds=7_200),
        salt="00112233445566778899aabbccddeeff",
        analysis_unit=experiment_pb2.ANALYSIS_UNIT_UNIT,
    )


def full_launch() -> experiment_pb2.Experiment:
    """Return an experiment with a launch, in place of the warm-up, and every field of it set."""
    requested = full_experiment()
    requested.limits.ClearField("warm_up_decisions")
    requested.limits.ClearField("warm_up_duration")
    requested.limits.champion_minimum_share = 0.3
    requested.launch.CopyFrom(full_plan())
    return requested


@pytest.mark.parametrize("full", [full_experiment, full_launch])
def test_every_declared_field_is_returned(wire: Wire, full: Callable[[], experiment_pb2.Experiment]) -> None:
    """Create, Get, List and Start return every declared field unchanged."""
    requested = full()
    assert {field.name for field, _ in requested.ListFields()} | {"launch"} == {
        field.name for field in experiment_pb2.Experiment.DESCRIPTOR.fields
    } - OUTPUT_ONLY
    created = wire.create(requested)
    assert declared(created) == requested
    assert declared(wire.get(requested.name)) == requested
    (listed,) = [each for each in wire.list_page(page_size=1_000).experiments if each.name == requested.name]
    assert listed == created
    assert declared(wire.start(requested.name)) == requested


def test_defaults_are_returned(wire: Wire) -> None:
    """Fields left unset return their defaults: policy, direction, range, age and a random salt."""
    one, other = wire.create(experiment()), wire.create(experiment())
    assert one.policy.HasField("thompson_sampling")
    assert one.metrics[0].direction == experiment_pb2.DIRECTION_MAXIMIZE
    assert (one.metrics[0].minimum, one.metrics[0].maximum) == (0, 1)
    assert one.max_decision_age == Duration(seconds=30 * 86_400)
    assert len(bytes.fromhex(one.salt)) == 16
    assert one.salt != other.salt
    long = metric("click", window=Duration(seconds=40 * 86_400))
    assert wire.create(experiment(metrics=[long])).max_decision_age == Duration(seconds=80 * 86_400)


def test_output_only_fields_are_ignored(wire: Wire) -> None:
    """Output-only fields of a request are ignored, so that a new experiment is always a draft."""
    requested = experiment(state=experiment_pb2.STATE_CONCLUDED, winner="b", etag="r9")
    requested.create_time.FromSeconds(1)
    requested.epoch.number = 7
    created = wire.create(requested)
    assert (created.state, created.winner, created.etag) == (experiment_pb2.STATE_DRAFT, "", "r1")
    assert created.create_time.seconds > 10**9
    assert not created.HasField("epoch")


def test_the_life_of_an_experiment(wire: Wire) -> None:
    """Each step, from draft to running, paused, concluded and deleted, has its time, etag and epoch."""
    name = wire.create(experiment()).name
    states = experiment_pb2.State
    running = wire.start(name)
    assert (running.state, running.etag, running.epoch.number) == (states.STATE_RUNNING, "r2", 1)
    assert running.HasField("start_time")
    assert dict(running.epoch.shares) == {"a": 0.5, "b": 0.5}
    assert wire.start(name) == running
    paused = wire.pause(name)
    assert (paused.state, paused.etag, paused.epoch) == (states.STATE_PAUSED, "r3", running.epoch)
    assert wire.pause(name) == paused
    resumed = wire.start(name)
    assert (resumed.state, resumed.etag, resumed.epoch.number) == (states.STATE_RUNNING, "r4", 2)
    assert resumed.start_time == running.start_time
    concluded = wire.conclude(name, "b")
    assert (concluded.state, concluded.etag, concluded.winner) == (states.STATE_CONCLUDED, "r5", "b")
    assert concluded.HasField("conclude_time")
    times = [
        concluded.create_time.ToNanoseconds(),
        concluded.start_time.ToNanoseconds(),
        resumed.update_time.ToNanoseconds(),
        concluded.conclude_time.ToNanoseconds(),
    ]
    assert times == sorted(times)
    assert concluded.update_time.ToNanoseconds() >= concluded.conclude_time.ToNanoseconds() - 10**9
    wire.delete(name)
    assert refused(lambda: wire.get(name)).code is grpc.StatusCode.NOT_FOUND


def test_an_etag_admits_one_of_two_writers(wire: Wire) -> None:
    """A change to the current version succeeds, and a change to the version before it is aborted."""
    name = wire.create(experiment()).name
    etag = wire.get(name).etag
    first = wire.update(experiment(name=name, etag=etag, description="first"), "description")
    refusal = refused(
        lambda: wire.update(experiment(name=name, etag=etag, description="second"), "description")
    )
    assert refusal.code is grpc.StatusCode.ABORTED
    assert wire.get(name) == first
    assert first.etag != etag
    third = wire.update(experiment(name=name, etag=first.etag, description="third"), "description")
    assert third.description == "third"


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("description", {"description": "new"}),
        ("arms", {"arms": [experiment_pb2.Arm(id=arm) for arm in "acd"]}),
        ("champion", {"champion": "a"}),
        ("policy", {"policy": {"thompson_sampling": {}}}),
        ("metrics", {"metrics": [metric("spend", kind=2, maximum=3)]}),
        ("reward_metric", {"reward_metric": "click"}),
        ("limits", {"limits": {"minimum_share": 0.1}}),
        ("half_life", {"half_life": Duration(seconds=5)}),
        ("lookback", {"lookback": Duration(seconds=5)}),
        ("max_decision_age", {"max_decision_age": Duration(seconds=9_000)}),
        ("salt", {"salt": "ff" * 16}),
    ],
)
def test_a_mask_changes_the_field_it_names(wire: Wire, path: str, changes: dict[str, Any]) -> None:
    """The masked field is taken from the request, and all others stay, whatever the request has."""
    before = full_experiment()
    wire.create(before)
    requested = experiment(**{"name": before.name, "description": "not asked for"} | changes)
    after = declared(wire.update(requested, path))
    expected = experiment_pb2.Experiment()
    expected.CopyFrom(before)
    expected.ClearField(path)  # type: ignore[arg-type]  # the stub knows literal names only
    expected.MergeFrom(experiment_pb2.Experiment(**changes))
    if path == "metrics":
        expected.metrics[0].direction = experiment_pb2.DIRECTION_MAXIMIZE
    assert after == expected
    assert declared(wire.get(before.name)) == expected


def test_a_masked_field_that_is_not_set_is_cleared(wire: Wire) -> None:
    """A field in the mask that is not set returns to its default."""
    before = full_experiment()
    wire.create(before)
    after = wire.update(experiment_pb2.Experiment(name=before.name), "half_life", "limits", "description")
    assert not after.HasField("half_life")
    assert after.limits == experiment_pb2.Limits()
    assert after.description == ""
    assert after.lookback == before.lookback


@pytest.mark.parametrize("paths", [(), ("*",)])
def test_without_a_mask_everything_declared_is_replaced(wire: Wire, paths: tuple[str, ...]) -> None:
    """No mask and * mean the same; the salt stays, since units would change arms otherwise."""
    before = full_experiment()
    wire.create(before)
    after = wire.update(experiment(name=before.name), *paths)
    assert [arm.id for arm in after.arms] == ["a", "b"]
    assert not after.HasField("half_life")
    assert after.salt == before.salt


def test_validate_only_stores_nothing(wire: Wire) -> None:
    """With validate_only, Create and Update answer and refuse as usual, but change nothing."""
    requested = experiment(description="dry")
    request = experiment_pb2.CreateExperimentRequest(experiment=requested, validate_only=True)
    assert wire.experiments.CreateExperiment(request, timeout=20).description == "dry"
    assert refused(lambda: wire.get(requested.name)).code is grpc.StatusCode.NOT_FOUND
    stored = wire.create(requested)
    existing = refused(lambda: wire.experiments.CreateExperiment(request, timeout=20))
    assert existing.code is grpc.StatusCode.ALREADY_EXISTS
    gone = wire.create(experiment())
    wire.delete(gone.name)
    request.experiment.name = gone.name
    deleted = refused(lambda: wire.experiments.CreateExperiment(request, timeout=20))
    assert deleted.code is grpc.StatusCode.ALREADY_EXISTS
    changed = experiment(name=requested.name, description="wet")
    assert wire.update(changed, "description", validate_only=True).description == "wet"
    assert wire.get(requested.name) == stored
    broken = experiment(name=requested.name, champion="z")
    assert refused(lambda: wire.update(broken, "champion", validate_only=True)).violations.keys() == {
        "champion"
    }


def test_a_running_experiment_takes_a_change_with_its_next_epoch(wire: Wire) -> None:
    """Limits hold from the answer of Update on, and the epoch lists the arms."""
    name = wire.running()
    limits = experiment_pb2.Limits(minimum_shares={"a": 0.8})
    changed = wire.update(experiment(name=name, limits=limits), "limits")
    assert changed.epoch.number == 2
    assert dict(changed.epoch.shares) == {"a": pytest.approx(0.9), "b": pytest.approx(0.1)}
    assert wire.choose(name).epoch == 2
    arms = [experiment_pb2.Arm(id=arm) for arm in "abc"]
    grown = wire.update(experiment(name=name, arms=arms), "arms")
    assert dict(grown.epoch.shares).keys() == {"a", "b", "c"}
    assert wire.choose(name, eligible_arms=["c"]).arm == "c"


def test_pages_have_every_experiment_once_in_order(wire: Wire) -> None:
    """Pages follow each other by their tokens, in the order of names, and the last has no token."""
    prefix = f"page-{time.time_ns()}"
    names = [f"{prefix}/{letter}" for letter in "edcba"]
    for name in names:
        wire.create(experiment(name=name))
    seen: list[str] = []
    token = ""
    while True:
        page = wire.list_page(page_size=2, page_token=token)
        assert 1 <= len(page.experiments) <= 2
        seen += [each.name for each in page.experiments]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen))
    assert [name for name in seen if name.startswith(prefix)] == sorted(names)


def test_a_page_ends_before_it_is_too_large_for_a_client(wire: Wire) -> None:
    """A page stays within the 4 MiB limit of gRPC clients, however large the experiments are."""
    prefix = f"large-{time.time_ns()}"
    arms = [experiment_pb2.Arm(id=f"a{number}") for number in range(50)]
    for arm in arms:
        arm.payload.update({"x": "y" * 16_000})
    names = [f"{prefix}-{number}" for number in range(7)]
    for name in names:
        wire.create(experiment(name=name, arms=arms, champion="a0"))
    seen: list[str] = []
    token = ""
    while token or not seen:
        page = wire.list_page(page_size=1_000, page_token=token)
        seen += [each.name for each in page.experiments]
        token = page.next_page_token
    assert [name for name in seen if name.startswith(prefix)] == names
    for name in names:
        wire.delete(name)


def test_a_list_can_be_filtered_by_state(wire: Wire) -> None:
    """A list filtered by state has only experiments in that state."""
    draft, running = wire.create(experiment()).name, wire.running()
    paused, concluded = wire.running(), wire.running()
    wire.pause(paused)
    wire.conclude(concluded, "a")
    mine = {
        experiment_pb2.STATE_DRAFT: draft,
        experiment_pb2.STATE_RUNNING: running,
        experiment_pb2.STATE_PAUSED: paused,
        experiment_pb2.STATE_CONCLUDED: concluded,
    }
    for state, name in mine.items():
        listed = wire.list_page(state=state, page_size=1_000).experiments
        assert {each.state for each in listed} == {state}
        assert name in {each.name for each in listed}
        assert not {each.name for each in listed} & (set(mine.values()) - {name})


def test_the_first_report_has_every_field(wire: Wire) -> None:
    """Before any outcome, a report has the prior's beliefs, the shares, and notes that explain them."""
    name = wire.running(metrics=[metric("buy", guardrail=True), metric("click")])
    report = wire.report(name)
    assert (report.experiment, report.state, report.champion) == (name, experiment_pb2.STATE_RUNNING, "a")
    assert (report.reward_metric, report.direction) == ("click", experiment_pb2.DIRECTION_MAXIMIZE)
    assert report.winner == ""
    assert report.HasField("start_time")
    assert report.report_time.ToNanoseconds() >= report.start_time.ToNanoseconds()
    assert (report.n_epochs, [epoch.number for epoch in report.epochs]) == (1, [1])
    for arm in report.arms:
        assert (arm.share, arm.out_of_service, arm.warming_up) == (0.5, False, False)
        assert [each.metric for each in arm.metrics] == ["click", "buy"]
        assert arm.probability_best == pytest.approx(0.5)
        # E[max(p, q)] - E[p] for two uniform p and q: 2/3 - 1/2.
        assert arm.expected_loss == pytest.approx(1 / 6)
        click = arm.metrics[0]
        assert (click.outcomes, click.open_outcomes, click.late_outcomes, click.observations) == (0, 0, 0, 0)
        assert not click.HasField("mean")
        assert click.interval.kind == evidence_pb2.INTERVAL_KIND_POSTERIOR
        assert click.interval.lower == pytest.approx(0.025)
        assert click.interval.upper == pytest.approx(0.975)
    assert any("posterior" in note for note in report.notes)


def test_a_report_has_committed_data(wire: Wire) -> None:
    """Outcomes are in it at once, decisions within about a second, and epochs are thinned as requested."""
    name = wire.running()
    for _ in range(4):
        decision_id = wire.choose(name, eligible_arms=["a"]).decision_id
        wire.reward(decision_id, {"click": 1})
    click = wire.report(name).arms[0].metrics[0]
    assert (click.outcomes, click.observations, click.mean) == (4, 4.0, 1.0)
    for number in range(1, 8):
        limits = experiment_pb2.Limits(minimum_share=number / 100)
        wire.update(experiment(name=name, limits=limits), "limits")
    report = eventually(lambda: wire.report(name, 3), until=lambda report: report.n_epochs >= 8)
    assert len(report.epochs) == 3
    assert (report.epochs[0].number, report.epochs[-1].number) == (1, report.n_epochs)
    eventually(lambda: wire.report(name).arms[0].decisions.restricted == 4)


def test_a_report_outlives_its_experiment(wire: Wire) -> None:
    """Paused and concluded experiments have reports, with the winner."""
    name = wire.running()
    wire.pause(name)
    assert wire.report(name).state == experiment_pb2.STATE_PAUSED
    wire.conclude(name, "b")
    report = wire.report(name)
    assert (report.state, report.winner) == (experiment_pb2.STATE_CONCLUDED, "b")
