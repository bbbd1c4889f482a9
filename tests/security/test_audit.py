"""The audit log: who changed what, written in the transaction of the change."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from bandit.v1 import admin_pb2, experiment_pb2
from server.cli.main import cli
from server.store.errors import StoreError
from server.store.opening import open_store
from server.store.records import KeyRing, State
from server.store.sql_store import SqlStore
from tests.bandit.builders import START, declare
from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.store.builders import create, epoch_of, nonces_of
from tests.support.process import ServerProcess
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment


def entries_of(
    wire: Wire, name: str = "", *, page_size: int = 0, page_token: str = ""
) -> list[admin_pb2.AuditEntry]:
    """Return a page of the audit log, newest change first."""
    message = admin_pb2.ListAuditEntriesRequest(experiment=name, page_size=page_size, page_token=page_token)
    return list(wire.admin.ListAuditEntries(message, timeout=20).entries)


def test_every_change_leaves_its_entry(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """An entry has caller, action, old and new value; calls that change nothing or are refused leave none."""
    operator, admin = enter(guarded, tokens.token("operator")), enter(guarded, tokens.token("admin"))
    declared = experiment(description="one")
    name = declared.name
    operator.create(declared)
    operator.start(name)
    operator.start(name)
    declared.description = "two"
    operator.update(declared, "description", validate_only=True)
    operator.update(declared, "description")
    operator.pause(name)
    admin.conclude(name, "b")
    refused(lambda: operator.start(name))
    admin.delete(name)
    entries = entries_of(admin, name)
    assert [(entry.caller, entry.action) for entry in reversed(entries)] == [
        ("operator", "create"),
        ("operator", "start"),
        ("operator", "update"),
        ("operator", "pause"),
        ("admin", "conclude"),
        ("admin", "delete"),
    ]
    documents = [
        (json.loads(entry.before or "{}"), json.loads(entry.after or "{}")) for entry in reversed(entries)
    ]
    assert [(before.get("state"), after.get("state")) for before, after in documents] == [
        (None, "draft"),
        ("draft", "running"),
        ("running", "running"),
        ("running", "paused"),
        ("paused", "concluded"),
        ("concluded", None),
    ]
    before, after = documents[2]
    assert (before["declaration"]["description"], after["declaration"]["description"]) == ("one", "two")
    assert all(later[0] == earlier[1] for earlier, later in pairwise(documents))
    assert [entry.number for entry in entries] == sorted((e.number for e in entries), reverse=True)


def test_the_deepest_payload_can_be_read_again(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """The entry of the deepest payload that an experiment can have is returned unchanged."""
    everything = enter(guarded, tokens.token("everything"))
    text = '{"x":' * 25 + "1" + "}" * 25
    arm = experiment_pb2.Arm(id="a", payload=json_format.Parse(text, Struct()))
    declared = experiment(arms=[arm, experiment_pb2.Arm(id="b")])
    everything.create(declared)
    (entry,) = entries_of(everything, declared.name)
    assert json.loads(entry.after)["declaration"]["arms"][0]["payload"] == json.loads(text)


def test_the_entry_of_a_rotation_has_no_secret(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """The entry of a rotation has ids, times and caller, and no secret."""
    admin = enter(guarded, tokens.token("admin"))
    admin.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=20)
    entry = next(entry for entry in entries_of(admin) if entry.action == "rotate_key")
    assert (entry.caller, entry.experiment) == ("admin", "")
    assert set(json.loads(entry.after or "{}")) == {"keys", "newest", "signs_at"}


def test_the_audit_is_read_in_pages(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """Pages have each entry once, newest first; an invalid page token is refused."""
    admin = enter(guarded, tokens.token("everything"))
    name = admin.running()
    admin.pause(name)
    numbers, token = [], ""
    while True:
        request = admin_pb2.ListAuditEntriesRequest(experiment=name, page_size=2, page_token=token)
        page = admin.admin.ListAuditEntries(request, timeout=20)
        numbers += [entry.number for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert len(numbers) == 3
    assert numbers == sorted(set(numbers), reverse=True)
    wrong = (
        lambda: entries_of(admin, page_token="x"),  # noqa: S106 - a position in a list
        lambda: entries_of(admin, page_token="9" * 30),
        lambda: entries_of(admin, page_size=-1),
        lambda: entries_of(admin, "No Name"),
    )
    assert {refused(call).code for call in wrong} == {grpc.StatusCode.INVALID_ARGUMENT}


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    """Open a store on a file."""
    return open_store(f"sqlite:///{tmp_path / 'bandit.db'}")


@pytest.mark.parametrize("change", ["create", "start", "delete", "rotate", "revoke"])
def test_a_change_without_its_entry_is_rolled_back(store: SqlStore, change: str) -> None:
    """If the audit entry can't be written, nothing changes."""
    ring = store.adopt_keys(KeyRing({1: b"k" * 32, 2: b"l" * 32}, 2))
    draft = create(store)
    with store._dialect.writing() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    changes: dict[str, Callable[[], object]] = {
        "create": lambda: store.create_experiment(declare("other"), START),
        "start": lambda: store.change_experiment(
            draft, replace(draft, state=State.RUNNING), epoch_of(draft, 1)
        ),
        "delete": lambda: store.delete_experiment(draft, START),
        "rotate": lambda: store.rotate_keys(b"n" * 32, START, delay=timedelta(), ended_before=None),
        "revoke": lambda: store.revoke_key(1, START),
    }
    with pytest.raises(StoreError):
        changes[change]()
    assert store.list_experiments("", 10) == [draft]
    assert store.read_keys() == ring
    assert nonces_of(store, draft.number) == {}
    store.close()


def test_the_command_shows_what_changed(shared_process: ServerProcess, shared_wire: Wire) -> None:
    """It prints a line per change, with the changed values below; names with a namespace work everywhere."""
    declared = experiment()
    declared.name = f"team-a/{declared.name}"
    shared_wire.create(declared)
    declared.limits.minimum_share = 0.05
    shared_wire.update(declared, "limits")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--server", shared_process.address])
        assert result.exit_code == 0, result.output
        return result.stdout

    shown = run("audit", "--experiment", declared.name).splitlines()
    assert [line.split("  ", 1)[1].strip() for line in shown] == [
        f"anyone  update  {declared.name}",
        "limits.minimum_share: 0 -> 0.05",
        "revision: 1 -> 2",
        f"anyone  create  {declared.name}",
    ]
    assert len(json.loads(run("audit", "--limit", "1", "--json"))["entries"]) == 1
    run("experiment", "start", declared.name)
    assert declared.name in run("experiment", "list")
    assert f'name = "{declared.name}"' in run("experiment", "show", declared.name)
    assert run("choose", declared.name)
    assert run("report", declared.name).startswith(declared.name)
    assert re.search(r"^ *\d+ +signing", run("key", "list"), re.MULTILINE)


def test_the_command_rotates_and_revokes_keys(start_server: StartServer) -> None:
    """It also shows keys; its JSON has ids and states."""
    address = start_server().address
    rotated = CliRunner().invoke(cli, ["key", "rotate", "--server", address])
    assert re.search(r"^ *2 +signing .*\n *1 +verifying ", rotated.stdout, re.MULTILINE), rotated.output
    keys = json.loads(CliRunner().invoke(cli, ["key", "list", "--json", "--server", address]).stdout)["keys"]
    assert [(key["id"], key["state"]) for key in keys] == [
        (2, "DECISION_KEY_STATE_SIGNING"),
        (1, "DECISION_KEY_STATE_VERIFYING"),
    ]
    refused = CliRunner().invoke(cli, ["key", "revoke", "2", "--server", address])
    assert (refused.exit_code, refused.stderr) == (
        1,
        "error: no key was revoked: key 2 signs decisions; rotate first, and revoke it then\n",
    )
    revoked = CliRunner().invoke(cli, ["key", "revoke", "1", "--server", address])
    assert re.findall(r"^ *(\d+) ", revoked.stdout, re.MULTILINE) == ["2"], revoked.output
