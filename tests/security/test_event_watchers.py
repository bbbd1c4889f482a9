"""Who reads events: viewers, those of their namespaces, and no longer than they may."""

import time
from pathlib import Path

import grpc
import pytest

from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import refused

ALL = 'roles = ["viewer", "operator"]'


@pytest.fixture
def name() -> str:
    """A name in the namespace of one caller."""
    return f"team-a/events-{time.time_ns()}"


def test_a_caller_sees_the_events_of_its_namespaces(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter, name: str
) -> None:
    """Of all events it gets those of its namespaces, with their actors; others are refused by name."""
    everything = enter(guarded, tokens.token("everything"))
    other = everything.running()
    everything.running(name=name)
    wire = enter(guarded, tokens.token("team-a"))
    events = wire.list_events(page_size=1000).events
    assert {event.experiment.partition("/")[0] for event in events} == {"team-a"}
    assert {event.actor for event in wire.list_events(experiment=name).events} == {"everything"}
    watch = wire.watch_events()
    assert {event.experiment.partition("/")[0] for event in next(watch).events} == {"team-a"}
    watch.cancel()
    for call in (
        lambda: wire.list_events(experiment=other),
        lambda: next(wire.watch_events(experiment=other)),
    ):
        assert refused(call).code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param("", grpc.StatusCode.UNAUTHENTICATED, id="token removed"),
        pytest.param('roles = ["choose"]', grpc.StatusCode.PERMISSION_DENIED, id="role removed"),
        pytest.param(f'{ALL}\nnamespaces = ["team-b"]', grpc.StatusCode.OK, id="namespaces changed"),
    ],
)
def test_a_watcher_that_may_no_longer_see_gets_nothing_more(
    start_server: StartServer, tmp_path: Path, enter: Enter, changed: str, code: grpc.StatusCode
) -> None:
    """Once the tokens file is read again, the next event ends the stream instead of being sent.

    A watcher whose permissions are others is sent away with OK, and comes back with those.
    """
    file = TokensFile.create(tmp_path / "tokens.toml", {"watcher": ALL, "other": ALL})
    server = start_server("--tokens", str(file.path))
    other = enter(server, file.token("other"))
    name = other.running()
    watch = enter(server, file.token("watcher")).watch_events(experiment=name)
    assert len(next(watch).events) == 2
    file.write({"other": ALL} | ({"watcher": changed} if changed else {}))
    probe = enter(server, file.token("watcher"))

    def is_known() -> bool:
        try:
            probe.get(name)
        except grpc.RpcError:
            return False
        return True

    eventually(is_known, until=lambda known: not known)
    other.pause(name)
    if code is grpc.StatusCode.OK:
        assert list(watch) == []
    else:
        assert refused(lambda: list(watch)).code is code
