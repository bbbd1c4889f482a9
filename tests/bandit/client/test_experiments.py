"""The experiment calls pass messages through, page by page, and raise typed errors."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from bandit.client import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from bandit.v1 import experiment_pb2 as pb
from bandit.v1 import launch_pb2 as launch
from tests.bandit.client.peer import AnyClient, Script, answer, collect, fail, settle

EXPERIMENT = pb.Experiment(name="ranker", champion="v1", etag="tag")

Call = Callable[[AnyClient], Message | Awaitable[Message] | Awaitable[None] | None]

CALLS: dict[str, tuple[Call, Message, Message]] = {
    "CreateExperiment": (
        lambda client: client.experiments.create(EXPERIMENT, validate_only=True),
        pb.CreateExperimentRequest(experiment=EXPERIMENT, validate_only=True),
        EXPERIMENT,
    ),
    "GetExperiment": (
        lambda client: client.experiments.get("ranker"),
        pb.GetExperimentRequest(name="ranker"),
        EXPERIMENT,
    ),
    "UpdateExperiment": (
        lambda client: client.experiments.update(
            EXPERIMENT, update_mask=["limits", "arms"], validate_only=True
        ),
        pb.UpdateExperimentRequest(
            experiment=EXPERIMENT, update_mask=FieldMask(paths=["limits", "arms"]), validate_only=True
        ),
        EXPERIMENT,
    ),
    "DeleteExperiment": (
        lambda client: client.experiments.delete("ranker", etag="tag"),
        pb.DeleteExperimentRequest(name="ranker", etag="tag"),
        pb.DeleteExperimentResponse(),
    ),
    "StartExperiment": (
        lambda client: client.experiments.start("ranker", etag="tag"),
        pb.StartExperimentRequest(name="ranker", etag="tag"),
        EXPERIMENT,
    ),
    "PauseExperiment": (
        lambda client: client.experiments.pause("ranker", etag="tag"),
        pb.PauseExperimentRequest(name="ranker", etag="tag"),
        EXPERIMENT,
    ),
    "ConcludeExperiment": (
        lambda client: client.experiments.conclude("ranker", winner="v2", etag="tag"),
        pb.ConcludeExperimentRequest(name="ranker", winner="v2", etag="tag"),
        EXPERIMENT,
    ),
    "GetReport": (
        lambda client: client.experiments.report("ranker", max_epochs=5, splits=[{"v1": 0.5}], lift=0.2),
        pb.GetReportRequest(
            name="ranker",
            max_epochs=5,
            splits=[pb.StaticSplit(weights={"v1": 0.5})],
            lift=0.2,
            max_bytes=2**28,
        ),
        pb.Report(experiment="ranker"),
    ),
}


VERBS = ("approve", "advance", "hold", "resume", "rollback", "promote", "restart")
LAUNCH = launch.Launch(name="ranker", champion="v1")


def test_every_verb_of_launches_has_a_call() -> None:
    """The client has a call for each method of LaunchService, and each is tested here."""
    service = launch.DESCRIPTOR.services_by_name["LaunchService"]
    names = {method.name.removesuffix("Launch").lower() for method in service.methods}
    assert names == {*VERBS, "get"}


async def test_a_launch_passes_through(client: AnyClient, script: Script) -> None:
    """`launch` asks by name, and returns the service's message."""
    script.on("GetLaunch", answer(LAUNCH))
    assert await settle(client.experiments.launch("ranker")) == LAUNCH
    assert script.requests("GetLaunch") == [launch.GetLaunchRequest(name="ranker").SerializeToString()]


@pytest.mark.parametrize("verb", VERBS)
async def test_verbs_pass_through(client: AnyClient, script: Script, verb: str) -> None:
    """Each verb sends its arguments and returns the launch, after one attempt."""
    method = "RollBackLaunch" if verb == "rollback" else f"{verb.capitalize()}Launch"
    script.on(method, answer(LAUNCH))
    arguments: dict[str, Any] = {
        "reason": "why",
        "arm": "v2",
        "request_id": "r",
        "entry": 3,
        "validate_only": True,
    }
    call = getattr(client.experiments, verb)
    assert await settle(call("ranker", **arguments, timeout=5.0)) == LAUNCH
    request = getattr(launch, f"{method}Request")(verb=launch.LaunchVerb(name="ranker", **arguments))
    assert script.requests(method) == [request.SerializeToString()]


async def test_an_unknown_argument_of_a_verb_is_a_type_error(client: AnyClient) -> None:
    """A verb takes the arguments that it documents."""
    with pytest.raises(TypeError, match="because"):
        await settle(client.experiments.hold("ranker", because="why"))  # type: ignore[call-arg]


def test_every_method_has_a_call() -> None:
    """The client has a call for each method of the service, and each is tested here."""
    service = pb.DESCRIPTOR.services_by_name["ExperimentService"]
    assert {method.name for method in service.methods} == {
        *CALLS,
        "ListExperiments",
        "ListEvents",
        "WatchEvents",
    }


@pytest.mark.parametrize("method", CALLS)
async def test_messages_pass_through(client: AnyClient, script: Script, method: str) -> None:
    """Each call sends its arguments and returns the service's message."""
    call, request, response = CALLS[method]
    script.on(method, answer(response))
    result = await settle(call(client))
    assert script.requests(method) == [request.SerializeToString()]
    assert result == (None if method == "DeleteExperiment" else response)


@pytest.mark.parametrize("method", CALLS)
async def test_errors_are_typed(client: AnyClient, script: Script, method: str) -> None:
    """Each call raises the typed error with the service's message, after one attempt."""
    script.on(method, fail(grpc.StatusCode.NOT_FOUND, "no experiment 'ranker'"))
    with pytest.raises(NotFoundError, match="no experiment 'ranker'"):
        await settle(CALLS[method][0](client))
    assert len(script.received) == 1


async def test_all_pages_are_read(client: AnyClient, script: Script) -> None:
    """Listing follows the page tokens to the end, with the same filter."""
    names = ["a", "b", "c", "d", "e"]
    pages = [
        pb.ListExperimentsResponse(
            experiments=[pb.Experiment(name=name) for name in page], next_page_token=token
        )
        for page, token in (("ab", "t1"), ("", "t2"), ("cde", ""))
    ]
    script.on("ListExperiments", *map(answer, pages))
    listed = await collect(client.experiments.list(state=pb.STATE_RUNNING, page_size=2))
    assert [experiment.name for experiment in listed] == names
    sent = [pb.ListExperimentsRequest.FromString(each) for each in script.requests("ListExperiments")]
    assert sent == [
        pb.ListExperimentsRequest(page_size=2, state=pb.STATE_RUNNING, page_token=token)
        for token in ("", "t1", "t2")
    ]


async def test_failing_page_is_raised(client: AnyClient, script: Script) -> None:
    """A page that fails raises: a list that ended early would look complete."""
    page = pb.ListExperimentsResponse(experiments=[EXPERIMENT], next_page_token="t1")  # noqa: S106 - a page's
    script.on("ListExperiments", answer(page), fail(grpc.StatusCode.INVALID_ARGUMENT))
    with pytest.raises(InvalidArgumentError):
        await collect(client.experiments.list())


async def test_lost_race_is_a_conflict(client: AnyClient, script: Script) -> None:
    """A stale etag raises ConflictError, and the call is not repeated."""
    script.on("UpdateExperiment", fail(grpc.StatusCode.ABORTED, "etag"))
    with pytest.raises(ConflictError):
        await settle(client.experiments.update(EXPERIMENT))
    assert len(script.received) == 1


async def test_mask_is_not_a_string(client: AnyClient, script: Script) -> None:
    """A mask passed as one string, whose letters would be taken for paths, is refused."""
    with pytest.raises(TypeError, match="update_mask"):
        await settle(client.experiments.update(EXPERIMENT, update_mask="arms"))
    assert script.received == []


async def test_deadlines(client: AnyClient, script: Script) -> None:
    """A call has ten seconds, or its own timeout; then it raises UnavailableError."""
    script.on("GetExperiment", answer(EXPERIMENT), script.hang)
    await settle(client.experiments.get("ranker"))
    assert 5.0 < script.received[0].time_remaining <= 10.0 * 1.01  # gRPC rounds up to three digits
    with pytest.raises(UnavailableError):
        await settle(client.experiments.get("ranker", timeout=0.05))


async def test_closed_client(client: AnyClient) -> None:
    """A closed client refuses experiment calls."""
    await settle(client.close())
    with pytest.raises(UnavailableError, match="closed"):
        await settle(client.experiments.get("ranker"))
