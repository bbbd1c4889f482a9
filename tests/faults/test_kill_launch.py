"""kill -9 of the only server while it acts for a launch: its story stays the same."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.harness.processes import free_port
from server.store.opening import open_store
from server.store.records import ExperimentRecord
from tests.support.launch_story import LAUNCH_FLAGS, POINTS, STORY, Story, Traffic, ending, launched
from tests.support.ledger import query
from tests.support.process import ServerProcess, verify
from tests.support.wire import Wire

FLAGS: Final = (*LAUNCH_FLAGS, "--poll-seconds", "0.2", "--epoch-interval-seconds", "0.2")
CALLERS: Final = (0, 1)

points = st.tuples(st.sampled_from(POINTS), st.floats(0, 1))
kills = st.lists(points, min_size=2, max_size=3, unique_by=lambda kill: kill[0]).map(sorted)


def play(folder: Path, planned: Sequence[tuple[int, float]]) -> ExperimentRecord:
    """Let a launch run from its start to its end, while its server is killed after so much has happened.

    Fails unless its story is `STORY`, no acknowledged reward is lost, and the facts are the fold of the log.
    """
    file, port = folder / "bandit.db", free_port()
    server = ServerProcess.start(file, *FLAGS, port=port)
    declared = launched()
    try:
        with closing(Wire(server.address)) as wire:
            wire.create(declared)
            traffic = Traffic(declared.name, [wire for _ in CALLERS])
            story = Story(traffic, [wire])
            wire.start(declared.name)
            with traffic.flowing():
                for point, seconds in planned:
                    story.await_told(point)
                    time.sleep(seconds)  # the fault comes at any moment after the event
                    traffic.ailing.update(CALLERS)
                    server.kill()
                    server = ServerProcess.start(file, *FLAGS, port=port)
                    traffic.await_work(CALLERS, 60.0)
                    traffic.ailing.clear()
                assert story.await_end() == list(STORY)
        assert server.terminate() == 0
    finally:
        if server.process.poll() is None:
            server.kill()
    assert traffic.failed == []
    assert traffic.acked <= {bytes(decision) for (decision,) in query(file, "SELECT decision FROM rewards")}
    verify(file)
    with closing(open_store(server.url)) as store:
        found = store.find_experiment(declared.name)
    assert found is not None
    return ending(found)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> ExperimentRecord:
    """The end of a launch whose server is not killed."""
    return play(tmp_path_factory.mktemp("undisturbed"), [])


@settings(
    max_examples=3,
    phases=(Phase.generate,),  # a run takes half a minute: a failure is shown as it was found
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(planned=kills)
def test_a_server_that_is_killed_goes_on_with_its_launch(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: ExperimentRecord, planned: list[tuple[int, float]]
) -> None:
    """Whenever it is killed, each action is done once, in order, and the end is the same."""
    assert play(tmp_path_factory.mktemp("killed"), planned) == undisturbed
