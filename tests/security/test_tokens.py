"""Who is let in by a token, and to which experiments."""

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
from tests.support.refusals import call_of, refused
from tests.support.wire import Wire, experiment

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


def is_known(wire: Wire) -> bool:
    """Whether the server takes the token of a channel."""
    try:
        wire.list_page()
    except grpc.RpcError as error:
        if call_of(error).code() is not UNAUTHENTICATED:
            raise
        return False
    return True


def test_a_wrong_token_is_refused_without_being_repeated(guarded: ServerProcess, enter: Enter) -> None:
    """UNAUTHENTICATED, and the token is in no text."""
    token = new_token()
    wire = enter(guarded, token)
    refusal = refused(wire.list_page)
    assert refusal.code is UNAUTHENTICATED
    assert token not in refusal.message


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer {token} x"])
def test_only_a_bearer_token_is_one(
    header: str, guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Another scheme, or more than the token, is no token."""
    wire = enter(guarded)
    metadata = (("authorization", header.format(token=tokens.token("viewer"))),)
    request = experiment_pb2.ListExperimentsRequest()
    refusal = refused(lambda: wire.experiments.ListExperiments(request, metadata=metadata, timeout=20))
    assert refusal.code is UNAUTHENTICATED


def test_the_scheme_is_of_any_case(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """As RFC 7235 has it."""
    metadata = (("authorization", f"bEARER {tokens.token('viewer')}"),)
    request = experiment_pb2.ListExperimentsRequest()
    enter(guarded).experiments.ListExperiments(request, metadata=metadata, timeout=20)


def test_both_tokens_of_a_caller_are_valid(guarded: ServerProcess, tokens: TokensFile, enter: Enter) -> None:
    """So that one can be replaced by the other."""
    assert [is_known(enter(guarded, token)) for token in tokens.tokens["viewer"]] == [True, True]


def test_a_token_that_was_taken_out_is_refused_without_a_restart(
    start_server: StartServer, tmp_path: Path, enter: Enter
) -> None:
    """The file is read anew; a broken one leaves the last in force, and is told once, without any hash."""
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


def test_a_tokens_file_in_disorder_refuses_nobody(
    start_server: StartServer, enter: Enter, tmp_path: Path
) -> None:
    """Half written, garbage, empty, a folder, gone, a link to nowhere: the last good one holds."""
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
        eventually(lambda n_bad=n_bad: use(wire, name) and n_told(server) >= n_bad)  # type: ignore[misc]
        assert use(enter(server, file.token("team")), name)
    file.path.unlink()
    file.tokens["late"] = [new_token()]
    file.write(callers | {"late": 'roles = ["viewer"]'})
    late = enter(server, file.token("late"))
    eventually(lambda: use(wire, name) and is_known(late))


def use(wire: Wire, name: str) -> bool:
    """Chooses and rewards; whether the reward was recorded."""
    results = wire.reward(wire.choose(name).decision_id, {"click": 1})
    return results == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}


def n_told(server: ServerProcess) -> int:
    """How often the log says that the last good file holds."""
    return len([event for event in server.events() if event["event"] == "file.not_reloaded"])


def test_a_caller_of_a_namespace_sees_nothing_else(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Its own it lists, creates, runs, chooses and rewards; every other name is denied, there or not."""
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


def test_a_reward_belongs_to_the_namespace_of_its_decision(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Another's decision is denied, and items of a batch are denied alone."""
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


def test_what_all_share_is_not_for_a_namespace(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """An admin of a namespace rotates no key, and reads of their own experiments only."""
    everything, team = enter(guarded, tokens.token("everything")), enter(guarded, tokens.token("team-a"))
    everything.running()
    team.running(name=f"team-a/x-{time.time_ns()}")
    rotate = admin_pb2.RotateDecisionKeyRequest()
    assert refused(lambda: team.admin.RotateDecisionKey(rotate, timeout=20)).code is DENIED
    keys = admin_pb2.ListDecisionKeysRequest()
    assert refused(lambda: team.admin.ListDecisionKeys(keys, timeout=20)).code is DENIED
    page = team.admin.ListAuditEntries(admin_pb2.ListAuditEntriesRequest(), timeout=20)
    assert {entry.experiment.split("/")[0] for entry in page.entries} == {"team-a"}


def test_without_a_tokens_file_the_log_says_what_that_means(shared_process: ServerProcess) -> None:
    """Whoever reaches the port may do everything."""
    (event,) = [event for event in shared_process.events() if event["event"] == "access.open"]
    assert (event["level"], event["meaning"]) == ("info", "whoever reaches the port may do everything")


def test_who_is_not_let_in_is_told_in_the_log(
    start_server: StartServer, tmp_path: Path, enter: Enter
) -> None:
    """Who tried what from where, once for a flood of calls; without the token, and not who was let in."""
    lines = 'roles = ["viewer", "operator"]\nnamespaces = ["team-a"]'
    file = TokensFile.create(tmp_path / "tokens.toml", {"team": lines})
    server = start_server("--tokens", str(file.path))
    stranger, known = enter(server, new_token()), enter(server, file.token("team"))
    for _ in range(20):
        refused(stranger.list_page)
    refused(lambda: known.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=20))
    refused(lambda: known.get("team-b/demo"))
    assert refused(lambda: known.get("team-a/demo")).code is grpc.StatusCode.NOT_FOUND
    told = eventually(
        lambda: [event for event in server.events() if event["event"] == "access.refused"],
        until=lambda events: len(events) == 3,
    )
    assert [(event["method"], event["caller"]) for event in told] == [
        ("ListExperiments", None),
        ("RotateDecisionKey", None),
        ("GetExperiment", "team"),
    ]
    assert "this server does not know the token" in told[0]["why"]
    assert "caller 'team' has none of the roles" in told[1]["why"]
    assert all("127.0.0.1" in event["peer"] for event in told)
    assert told[1]["n_unsaid"] == 19
