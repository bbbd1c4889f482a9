"""Authentication by token, and authorization by namespace."""

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from bandit.v1 import admin_pb2, bandit_pb2, experiment_pb2
from server.services.access.callers import new_token
from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.process import ServerProcess, eventually
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def is_known(wire: Wire) -> bool:
    """True if the server accepts the token of a channel."""
    code = refused(lambda: wire.choose("missing")).code
    assert code in {UNAUTHENTICATED, DENIED, grpc.StatusCode.NOT_FOUND}
    return code is not UNAUTHENTICATED


@pytest.mark.both_listeners
def test_a_wrong_token_is_refused_without_being_repeated(guarded: ServerProcess, enter: Enter) -> None:
    """It gets UNAUTHENTICATED, and no text has the token."""
    token = new_token()
    wire = enter(guarded, token)
    refusal = refused(lambda: wire.choose("missing"))
    assert refusal.code is UNAUTHENTICATED
    assert token not in refusal.message


@pytest.mark.both_listeners
@pytest.mark.parametrize("header", ["", "Bearer", "Basic {token}", "{token}", "Bearer {token} x"])
def test_only_a_bearer_token_is_accepted(
    header: str, guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Another scheme, or more text than the token, is refused."""
    wire = enter(guarded)
    metadata = (("authorization", header.format(token=tokens.token("choose"))),)
    request = bandit_pb2.ChooseRequest(experiment="missing")
    refusal = refused(lambda: wire.bandit.Choose(request, metadata=metadata, timeout=20))
    assert refusal.code is UNAUTHENTICATED


@pytest.mark.both_listeners
def test_the_scheme_is_case_insensitive(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """The scheme is case-insensitive, as RFC 7235 requires."""
    metadata = (("authorization", f"bEARER {tokens.token('choose')}"),)
    request = bandit_pb2.ChooseRequest(experiment="missing")
    wire = enter(guarded)
    refusal = refused(lambda: wire.bandit.Choose(request, metadata=metadata, timeout=20))
    assert refusal.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.both_listeners
def test_callers_can_share_a_connection(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """Each call is its own caller's, in whatever order they come, as behind a proxy."""
    wire, request = enter(guarded), bandit_pb2.ChooseRequest(experiment="missing")
    codes = {
        tokens.token("choose"): grpc.StatusCode.NOT_FOUND,
        tokens.tokens["choose"][1]: grpc.StatusCode.NOT_FOUND,
        tokens.token("viewer"): DENIED,
        new_token(): UNAUTHENTICATED,
        "": UNAUTHENTICATED,
    }
    for token in (*codes, *reversed(codes), *[*codes, *codes][::2]):
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        call = wire.bandit.Choose.future(request, metadata=metadata, timeout=20)
        assert refused(call.result).code is codes[token]


@pytest.mark.both_listeners
def test_both_tokens_of_a_caller_are_valid(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """A caller can have two valid tokens, so that one can replace the other."""
    assert [is_known(enter(guarded, token)) for token in tokens.tokens["viewer"]] == [True, True]


@pytest.mark.both_listeners
def test_a_removed_token_is_refused_without_a_restart(
    start_server: StartServer, tmp_path: Path, enter: Enter
) -> None:
    """The file is read again; a broken one is logged once, without hashes, and the last one stays valid."""
    roles = {"viewer": 'roles = ["viewer"]'}
    file = TokensFile.create(tmp_path / "tokens.toml", roles)
    server = start_server("--tokens", str(file.path))
    first, second = (enter(server, token) for token in file.tokens["viewer"])
    assert is_known(second)
    file.write(roles, n_tokens=1)
    eventually(lambda: not is_known(second))
    assert is_known(first)
    file.path.write_text(file.path.read_text() + 'namespace = ["team-a"]\n')
    eventually(lambda: [event for event in server.events() if event["event"] == "file.not_reloaded"])
    assert is_known(first)
    (event,) = [event for event in server.events() if event["event"] == "file.not_reloaded"]
    assert f"{file.path}: callers[0].namespace: no such key" in event["error"]
    assert "sha256:" not in event["error"]


@pytest.mark.both_listeners
def test_a_broken_tokens_file_refuses_no_known_caller(
    start_server: StartServer, enter: Enter, tmp_path: Path
) -> None:
    """If it is cut off, garbage, empty, a folder, missing or a dangling link, the last one stays valid."""
    callers = {"team": 'roles = ["choose", "reward", "operator", "admin"]'}
    file = TokensFile.create(tmp_path / "tokens.toml", callers)
    good = file.path.read_text()
    server = start_server("--tokens", str(file.path))
    wire = enter(server, file.token("team"))
    name = wire.running()

    def point_nowhere() -> None:
        file.path.rmdir()
        file.path.symlink_to(tmp_path / "none")

    disorders: list[Callable[[], object]] = [
        lambda: file.path.write_text(good[: len(good) // 2]),
        lambda: file.path.write_bytes(b"\xff\x00" * 1_000),
        lambda: file.path.write_text(""),
        file.path.unlink,
        file.path.mkdir,
        point_nowhere,
    ]
    for n_bad, disorder in enumerate(disorders, 1):
        disorder()
        eventually(lambda n_bad=n_bad: use(wire, name) and n_logged(server) >= n_bad)  # type: ignore[misc]
        assert use(enter(server, file.token("team")), name)
    file.path.unlink()
    file.tokens["late"] = [new_token()]
    file.write(callers | {"late": 'roles = ["viewer"]'})
    late = enter(server, file.token("late"))
    eventually(lambda: use(wire, name) and is_known(late))


def use(wire: Wire, name: str) -> bool:
    """Choose and reward; True if the reward was recorded."""
    results = wire.reward(wire.choose(name).decision_id, {"click": 1})
    return results == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}


def n_logged(server: ServerProcess) -> int:
    """Return how often the log reports that the last good file stays valid."""
    return len([event for event in server.events() if event["event"] == "file.not_reloaded"])


@pytest.mark.both_listeners
def test_a_caller_of_a_namespace_sees_nothing_else(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """It can use its own experiments; every other name is denied, whether it exists or not."""
    everything, team = enter(guarded, tokens.token("everything")), enter(guarded, tokens.token("team-a"))
    other = everything.running(name=f"team-b/x-{time.time_ns()}")
    bare = everything.running()
    mine = team.running(name=f"team-a/x-{time.time_ns()}")
    names = {found.name for found in team.list_page().experiments}
    assert mine in names
    assert {name.split("/")[0] for name in names} == {"team-a"}
    assert team.reward(team.choose(mine).decision_id, {"click": 1.0})
    for name in (other, bare, "team-b/missing", "missing", "team-a-b/x", "No Name"):
        declared = experiment(name=name)
        calls = (
            lambda name=name: team.choose(name),
            lambda name=name: team.get(name),
            lambda name=name: team.report(name),
            lambda name=name: team.pause(name),
            lambda declared=declared: team.create(declared),
            lambda declared=declared: team.update(declared),
            lambda name=name: team.delete(name),
            lambda name=name: team.admin.ListAuditEntries(
                admin_pb2.ListAuditEntriesRequest(experiment=name), timeout=20
            ),
        )
        refusals = {(refusal.code, refusal.message) for refusal in map(refused, calls)}
        assert refusals == {(DENIED, "the caller may not use this experiment, whether it exists or not")}
    assert everything.get(other).state == experiment_pb2.STATE_RUNNING


@pytest.mark.both_listeners
def test_a_reward_belongs_to_the_namespace_of_its_decision(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Decisions of another namespace are denied, in a batch item by item."""
    everything, team = enter(guarded, tokens.token("everything")), enter(guarded, tokens.token("team-a"))
    others = everything.choose(everything.running()).decision_id
    mine = everything.running(name=f"team-a/x-{time.time_ns()}")
    own = team.choose(mine).decision_id
    assert refused(lambda: team.reward(others, {"click": 1.0})).code is DENIED
    results = team.batch_reward(
        bandit_pb2.RewardRequest(decision_id=others, outcomes={"click": 1.0}),
        bandit_pb2.RewardRequest(decision_id=own, outcomes={"click": 1.0}),
    )
    assert [result.error.reason for result in results] == ["PERMISSION_DENIED", ""]
    choices = team.batch_choose(
        bandit_pb2.ChooseRequest(experiment="missing"), bandit_pb2.ChooseRequest(experiment=mine)
    )
    assert [choice.error.reason for choice in choices] == ["PERMISSION_DENIED", ""]
    everything.pause(mine)
    everything.delete(mine)
    assert refused(lambda: team.reward(own, {"click": 1.0}, revision=1)).code is DENIED


def test_shared_resources_are_not_for_a_namespace(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """An admin of a namespace can't rotate keys, and reads audit entries of its own experiments only."""
    everything, team = enter(guarded, tokens.token("everything")), enter(guarded, tokens.token("team-a"))
    everything.running()
    team.running(name=f"team-a/x-{time.time_ns()}")
    rotate = admin_pb2.RotateDecisionKeyRequest()
    assert refused(lambda: team.admin.RotateDecisionKey(rotate, timeout=20)).code is DENIED
    keys = admin_pb2.ListDecisionKeysRequest()
    assert refused(lambda: team.admin.ListDecisionKeys(keys, timeout=20)).code is DENIED
    page = team.admin.ListAuditEntries(admin_pb2.ListAuditEntriesRequest(), timeout=20)
    assert {entry.experiment.split("/")[0] for entry in page.entries} == {"team-a"}


def test_without_a_tokens_file_the_log_explains_the_meaning(shared_process: ServerProcess) -> None:
    """Without a tokens file, the log warns that anyone who reaches the port may do everything."""
    (event,) = [event for event in shared_process.events() if event["event"] == "access.open"]
    assert (event["level"], event["meaning"]) == ("info", "anyone who reaches the port may do everything")


@pytest.mark.both_listeners
def test_refused_callers_are_logged(start_server: StartServer, tmp_path: Path, enter: Enter) -> None:
    """It has caller, method and address, once for many calls, without the token or accepted calls."""
    lines = 'roles = ["viewer", "operator"]\nnamespaces = ["team-a"]'
    file = TokensFile.create(tmp_path / "tokens.toml", {"team": lines})
    server = start_server("--tokens", str(file.path))
    stranger, known = enter(server, new_token()), enter(server, file.token("team"))
    for _ in range(20):
        refused(lambda: stranger.choose("missing"))
    refused(lambda: known.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=20))
    refused(lambda: known.get("team-b/demo"))
    assert refused(lambda: known.get("team-a/demo")).code is grpc.StatusCode.NOT_FOUND
    logged = eventually(
        lambda: [event for event in server.events() if event["event"] == "access.refused"],
        until=lambda events: len(events) == 3,
    )
    assert [(event["method"], event["caller"]) for event in logged] == [
        ("Choose", None),
        ("RotateDecisionKey", None),
        ("GetExperiment", "team"),
    ]
    assert "this server does not know the token" in logged[0]["why"]
    assert "caller 'team' has none of the roles" in logged[1]["why"]
    assert all("127.0.0.1" in event["peer"] for event in logged)
    assert logged[1]["n_unsaid"] == 19
