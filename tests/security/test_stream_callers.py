"""Callers of streams, who are checked with each message."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import refusal_of
from tests.support.talk import Talk
from tests.support.wire import Wire

pytestmark = pytest.mark.both_listeners
ALL = 'roles = ["choose", "viewer", "operator"]'


@pytest.fixture
def begin() -> Iterator[Callable[[Wire], Talk]]:
    """Open streams that are closed at the end."""
    talks: list[Talk] = []

    def open_talk(wire: Wire) -> Talk:
        talks.append(Talk(wire))
        return talks[-1]

    yield open_talk
    for talk in talks:
        talk.close()


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"other": ALL}, grpc.StatusCode.UNAUTHENTICATED, id="token removed"),
        pytest.param(
            {"backend": 'roles = ["viewer"]', "other": ALL},
            grpc.StatusCode.PERMISSION_DENIED,
            id="role removed",
        ),
    ],
)
def test_a_caller_that_may_no_longer_choose_loses_its_stream(
    start_server: StartServer,
    tmp_path: Path,
    enter: Enter,
    begin: Callable[[Wire], Talk],
    changed: dict[str, str],
    code: grpc.StatusCode,
) -> None:
    """Once the tokens file is read again, the next message ends the stream, and the log has the refusal."""
    file = TokensFile.create(tmp_path / "tokens.toml", {"backend": ALL, "other": ALL})
    server = start_server("--tokens", str(file.path))
    wire = enter(server, file.token("backend"))
    name = wire.running()
    kept, lost = begin(enter(server, file.token("other"))), begin(wire)
    assert lost.ask(name).choice.arm
    assert kept.ask(name).choice.arm
    file.write(changed)

    def ask_until_refused() -> grpc.RpcError | None:
        try:
            assert lost.ask(name).choice.arm
        except grpc.RpcError as error:
            return error
        return None

    error = eventually(ask_until_refused)
    assert error is not None
    assert refusal_of(error).code is code
    assert kept.ask(name).choice.arm
    (refused,) = [event for event in server.events() if event["event"] == "access.refused"]
    assert refused["method"] == "ChooseStream"


def test_an_experiment_of_another_namespace_fails_alone(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter, begin: Callable[[Wire], Talk]
) -> None:
    """A caller limited to namespaces gets PERMISSION_DENIED for that message only."""
    wire = enter(guarded, tokens.token("team-a"))
    name = enter(guarded, tokens.token("everything")).running(name=f"team-a/x-{time.time_ns()}")
    talk = begin(wire)
    talk.send("team-b/streamed")
    talk.send(name)
    talk.half_close()
    denied, chosen = talk.rest()
    assert denied.error.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert chosen.choice.arm
