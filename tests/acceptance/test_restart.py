"""Restarts on the same file, and second servers on one file or port."""

import socket
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import query, stored_epochs
from tests.support.process import ServerProcess, run_command, verify
from tests.support.wire import Wire, experiment, metric


def arms_of(wire: Wire, name: str) -> list[str]:
    """Return the arms of 500 units."""
    requests = [bandit_pb2.ChooseRequest(experiment=name, unit=f"u{number}") for number in range(500)]
    return [result.choice.arm for result in wire.batch_choose(*requests)]


def declared(message: experiment_pb2.Experiment) -> experiment_pb2.Experiment:
    """Return an experiment without its epoch, as another epoch may begin at any time."""
    message.ClearField("epoch")
    return message


def test_a_restarted_server_continues(start_server: StartServer, connect: Connect) -> None:
    """Units keep their arms, and rewards of earlier decisions, and repeats of them, are answered properly."""
    first = start_server()
    wire = connect(first)
    arms = [experiment_pb2.Arm(id=arm) for arm in "abc"]
    fixed = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights={"a": 5, "b": 2, "c": 3}))
    name = wire.running(arms=arms, policy=fixed, metrics=[metric("click"), metric("buy")])
    assigned = arms_of(wire, name)
    rewarded, open_ended = wire.choose(name, unit="u1"), wire.choose(name, unit="u2")
    wire.reward(rewarded.decision_id, {"click": 1})
    before = declared(wire.get(name))
    assert first.terminate() == 0
    decisions = 502

    second = start_server()
    wire = connect(second)
    assert declared(wire.get(name)) == before
    assert arms_of(wire, name) == assigned
    again = wire.choose(name, unit="u2", previous_decision_id=open_ended.decision_id)
    assert (again.reason, again.decision_id) == (bandit_pb2.REASON_PINNED, open_ended.decision_id)
    assert wire.reward(rewarded.decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}
    assert wire.reward(open_ended.decision_id, {"click": 1, "buy": 0}) == {
        "click": bandit_pb2.OUTCOME_RESULT_RECORDED,
        "buy": bandit_pb2.OUTCOME_RESULT_RECORDED,
    }
    by_arm = {arm.arm: arm.metrics[0].outcomes for arm in wire.report(name).arms}
    expected = [rewarded.arm, open_ended.arm]
    assert by_arm == {arm: expected.count(arm) for arm in "abc"}
    assert second.terminate() == 0
    decisions += 500
    assert query(second.database, "SELECT SUM(decisions) FROM decision_facts") == [(decisions,)]
    verify(second.database)


def test_every_state_survives_a_restart(start_server: StartServer, connect: Connect) -> None:
    """Drafts, pauses, winners and deletions are the same after a restart."""
    first = start_server()
    wire = connect(first)
    draft = wire.create(experiment(metrics=[metric("click", window=Duration(seconds=9))])).name
    paused, concluded, deleted = (wire.running() for _ in range(3))
    wire.pause(paused)
    wire.conclude(concluded, "b")
    wire.pause(deleted)
    wire.delete(deleted)
    before = wire.list_page()
    epochs = stored_epochs(first.database, concluded)
    assert first.terminate() == 0
    wire = connect(start_server())
    assert wire.list_page() == before
    assert wire.get(draft).state == experiment_pb2.STATE_DRAFT
    assert wire.choose(paused).reason == bandit_pb2.REASON_PAUSED
    assert wire.choose(concluded).arm == "b"
    assert deleted not in {each.name for each in before.experiments}
    assert stored_epochs(first.database, concluded) == epochs


def test_a_second_server_on_one_file_is_refused(start_server: StartServer, connect: Connect) -> None:
    """It exits with code 1 and one line that names the process in the way; the first server continues."""
    first = start_server()
    wire = connect(first)
    name = wire.running()
    done = run_command(
        "serve", "--listen", "127.0.0.1:0", "--database", first.url, folder=first.database.parent
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"in use by another bandit-server (process {first.process.pid})" in line
    assert wire.choose(name).arm
    assert not [event for event in first.events() if event["level"] != "info"]


def test_a_second_server_on_one_port_is_refused(shared_process: ServerProcess, tmp_path: Path) -> None:
    """It exits with an error instead of silently taking half of the traffic."""
    address, database = shared_process.address, f"sqlite:///{tmp_path / 'bandit.db'}"
    done = run_command("serve", "--listen", address, "--database", database, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert f"can't listen at {address}" in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:50051"])
def test_an_address_beyond_loopback_needs_insecure(tmp_path: Path, address: str) -> None:
    """Without --insecure such an address is refused, before the server listens or stores anything."""
    database = f"sqlite:///{tmp_path / 'bandit.db'}"
    done = run_command("serve", "--listen", address, "--database", database, folder=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "--insecure" in done.stderr
    assert address in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_port_that_is_printed_is_the_one_that_listens(shared_process: ServerProcess) -> None:
    """The server listens on the printed port, on loopback only."""
    server = shared_process
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)
