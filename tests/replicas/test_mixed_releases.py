"""Servers of the previous release next to those of this one, on one database: what each can do."""

import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bandit.v1 import bandit_pb2, experiment_pb2
from bandit.v1.experiment_pb2 import Arm
from server.store.errors import OlderServersError, StoreUnavailableError
from server.store.opening import open_store
from server.store.sql_store import SqlStore
from server.store.tables.ended_runs import FEATURE
from server.store.tables.experiments import NEW_KEYS
from server.version import VERSION
from tests.bandit.builders import START
from tests.conftest import Connect
from tests.replicas.conftest import FLAGS
from tests.replicas.mixed import forget_beats, last_revisions, works
from tests.store.builders import facts_of
from tests.support.old_server import OldRelease
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, eventually, run_command
from tests.support.refusals import refused
from tests.support.wire import Wire, experiment, metric

GONE = b"gone" + bytes(12)
UNIT_FLAGS = ("--poll-seconds", "0.05", "--lag-seconds", "0.2")
CHANGES_NOTHING = {"store.away", "epoch.failed", "upkeep.failed"}
"""What an old server may log when the database refuses its writes."""


def is_end_of_session(event: Mapping[str, Any]) -> bool:
    """Return whether an event says that PostgreSQL ended the session of a server frozen in a transaction."""
    raised = {error["exc_type"] for error in event.get("exception", ())}
    return event["event"] == "library.said" and "IdleInTransactionSessionTimeout" in raised


def end_a_run(store: SqlStore) -> None:
    """Use the gated feature: end a run of this release that is gone."""
    (gone,) = [each for each in store.read_writers() if each.incarnation == GONE]
    store.end_runs([gone], START)


def has_ended_a_run(store: SqlStore) -> bool:
    """Return whether the run was ended: PostgreSQL ends a frozen server's transaction after 10 s."""
    try:
        end_a_run(store)
    except StoreUnavailableError:
        return False
    return True


def test_two_releases_are_one_service(
    old: OldRelease,
    servers: list[ServerProcess],
    postgresql: PostgresqlProcess,
    tmp_path: Path,
    connect: Connect,
) -> None:
    """Through a rolling upgrade both releases serve, take each other's rewards, and keep the ledger exact.

    A feature that the old release can't read is refused, naming its servers, until they are gone. An old
    server that was frozen throughout and wakes up still serves and takes rewards, and changes nothing else.
    """
    url = postgresql.create_database()
    flags = ("--database", url, *FLAGS)
    before = old.start(tmp_path / "before.db", *flags)
    servers.append(before)
    name = connect(before).running()
    works([connect(before)], name)

    after = ServerProcess.start(tmp_path / "after.db", *flags)
    servers.append(after)
    wires = [connect(before), connect(after)]
    works(wires, name)
    names = [name, wires[0].running(), wires[1].running()]
    for each in names:
        eventually(lambda each=each: {wire.choose(each).reason for wire in wires})  # type: ignore[misc]
        works(wires, each)
    codes = {row[0] for row in query(url, "SELECT code FROM writers")}
    assert codes == {None, VERSION}

    with closing(open_store(url)) as store:
        store.claim_slot(GONE, START)
        with pytest.raises(OlderServersError) as caught:
            end_a_run(store)
        (described,) = caught.value.servers
        assert described.startswith("0.2.0 or older in slot ")
        assert FEATURE.name in str(caught.value)
        assert query(url, "SELECT count(*) FROM ended_runs") == [(0,)]
        works(wires, name)

        before.signal(signal.SIGSTOP)
        forget_beats(url)
        eventually(lambda: has_ended_a_run(store))
        assert query(url, "SELECT oldest_code FROM compatibility") == [(FEATURE.schema,)]
        before.signal(signal.SIGCONT)

        eventually(lambda: wires[0].choose(name).reason == bandit_pb2.REASON_POLICY)
        works(wires, name)
        stood = last_revisions(url)
        for _ in range(50):
            wires[0].reward(wires[0].choose(names[1]).decision_id, {"click": 1.0})
        with pytest.raises(Exception, match="UNAVAILABLE"):
            wires[0].pause(names[1])
        assert last_revisions(url) == stood
        wires[1].pause(names[1])
        eventually(lambda: wires[0].choose(names[1]).reason == bandit_pb2.REASON_PAUSED)
        changed = wires[1].running()
        eventually(lambda: wires[0].choose(changed).reason == bandit_pb2.REASON_POLICY)
        works(wires, changed)
        facts_of(store)
    refused = old.run("serve", "--listen", "127.0.0.1:0", *flags, folder=tmp_path)
    assert refused.returncode == 1
    assert f"needs code of schema {FEATURE.schema} or later" in refused.stderr
    assert [server.terminate() for server in servers] == [0, 0]
    errors = [e for e in before.events() if e["level"] in {"error", "critical"}]
    assert {e["event"] for e in errors if not is_end_of_session(e)} <= CHANGES_NOTHING
    assert [e for e in after.events() if e["level"] in {"error", "critical"}] == []


def test_an_old_server_reads_what_this_release_declares(
    old: OldRelease,
    servers: list[ServerProcess],
    postgresql: PostgresqlProcess,
    tmp_path: Path,
    connect: Connect,
) -> None:
    """A declaration that uses nothing new has no key that stops the old release's poll."""
    flags = ("--database", postgresql.create_database(), *FLAGS)
    servers.append(old.start(tmp_path / "before.db", *flags))
    servers.append(ServerProcess.start(tmp_path / "after.db", *flags))
    wires = [connect(server) for server in servers]
    name = wires[1].running()
    eventually(lambda: wires[0].choose(name).reason == bandit_pb2.REASON_POLICY)
    works(wires, name)
    wires[1].pause(name)
    eventually(lambda: wires[0].choose(name).reason == bandit_pb2.REASON_PAUSED)
    assert [server.terminate() for server in servers] == [0, 0]


def test_an_old_server_does_not_start_on_a_file_that_it_can_not_read(
    old: OldRelease, servers: list[ServerProcess], tmp_path: Path, connect: Connect
) -> None:
    """On SQLite the previous release starts on a file of this one, until a feature is in use."""
    file = tmp_path / "bandit.db"
    servers.append(ServerProcess.start(file))
    name = connect(servers[-1]).running()
    assert servers[-1].terminate() == 0
    servers.append(old.start(file))
    works([connect(servers[-1])], name)
    assert servers[-1].terminate() == 0
    with closing(open_store(f"sqlite:///{file}")) as store:
        store.claim_slot(GONE, START)
        end_a_run(store)
    refused = old.run("serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:///{file}", folder=tmp_path)
    assert refused.returncode == 1
    assert f"needs code of schema {FEATURE.schema} or later" in refused.stderr
    servers.append(ServerProcess.start(file))
    works([connect(servers[-1])], name)
    assert servers[-1].terminate() == 0


def test_units_that_an_old_server_counted_steer_with_their_first_decision(
    old: OldRelease, servers: list[ServerProcess], tmp_path: Path, connect: Connect
) -> None:
    """It notes no ids: a unit that it met counts once, and one that only this release met three times."""
    file = tmp_path / "bandit.db"
    servers.append(old.start(file, *UNIT_FLAGS))
    wire = connect(servers[-1])
    name = wire.running(analysis_unit=experiment_pb2.ANALYSIS_UNIT_UNIT)
    for _ in range(5):
        wire.reward(wire.choose(name, unit="known").decision_id, {"click": 1.0})
    assert servers[-1].terminate() == 0
    servers.append(ServerProcess.start(file, *UNIT_FLAGS))
    wire = connect(servers[-1])
    assert observed(wire, name) == (1, 1)
    for _ in range(5):
        wire.reward(wire.choose(name, unit="new").decision_id, {"click": 1.0})
    assert eventually(lambda: observed(wire, name), until=lambda seen: seen == (4, 4))
    assert servers[-1].terminate() == 0
    servers.append(old.start(file, *UNIT_FLAGS))
    wire = connect(servers[-1])
    for unit in ("known", "new", "another"):
        wire.reward(wire.choose(name, unit=unit).decision_id, {"click": 1.0})
    assert servers[-1].terminate() == 0
    servers.append(ServerProcess.start(file, *UNIT_FLAGS))
    wire = connect(servers[-1])
    assert eventually(lambda: observed(wire, name), until=lambda seen: seen == (5, 5))
    assert sum(arm.units for arm in wire.report(name).arms) == 3
    assert servers[-1].terminate() == 0


def observed(wire: Wire, name: str) -> tuple[float, int]:
    """Return how many decisions, and outcomes, are counted in beliefs on clicks."""
    clicks = [arm.metrics[0] for arm in wire.report(name).arms]
    return sum(each.observations for each in clicks), sum(each.outcomes for each in clicks)


def test_what_is_new_waits_until_no_old_server_is_live(
    old: OldRelease,
    servers: list[ServerProcess],
    postgresql: PostgresqlProcess,
    tmp_path: Path,
    connect: Connect,
) -> None:
    """Names and keys that the old release can't read are stored by no create or update while it is live.

    The refusal names the old server, and changes nothing. Once it is gone the same calls succeed, among
    polls and epochs of running servers, and it does not start again.
    """
    url = postgresql.create_database()
    flags = ("--database", url, *FLAGS)
    servers.append(old.start(tmp_path / "before.db", *flags))
    servers.append(ServerProcess.start(tmp_path / "after.db", *flags))
    before, after = map(connect, servers)
    persian = Arm(id="a", model_uri="s3://\u0645\u06cc\u200c\u062e")  # which the old release serves
    plain = after.running(arms=[persian, Arm(id="b")])
    eventually(lambda: before.choose(plain).reason == bandit_pb2.REASON_POLICY)
    works([before, after], plain)
    new_arm = experiment(arms=[Arm(id="a"), Arm(id="openai/gpt-4.1")])
    new_metric = experiment(metrics=[metric("thumbs_up")], reward_metric="thumbs_up")
    wider = experiment(name=plain, arms=[persian, Arm(id="V2")])
    names, keys = "names beyond [a-z0-9-]{1,63}", "signals, margins and shadows of metrics"
    errors = metric("errors", direction=experiment_pb2.DIRECTION_MINIMIZE)
    margin = experiment_pb2.Margin(relative=0.1)
    with_margin = experiment(metrics=[metric("click"), errors], reward_metric="click")
    with_margin.metrics[1].MergeFrom(experiment_pb2.Metric(guardrail=True, worse_by=margin))
    signals = [metric("click"), errors]
    errors.role = experiment_pb2.METRIC_ROLE_SIGNAL
    source = experiment_pb2.PriorFrom(arm="a", weight=0.1)
    taker = experiment(arms=[Arm(id="a"), Arm(id="b", prior_from=source)])
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: after.create(new_arm), names),
        (lambda: after.create(new_metric), names),
        (lambda: after.update(wider, "arms"), names),
        (lambda: after.create(with_margin), keys),
        (lambda: after.update(experiment(name=plain, metrics=signals), "metrics"), keys),
        (lambda: after.create(taker), "priors from other arms"),
    ]
    stood = last_revisions(url)
    for call, feature in calls:
        refusal = refused(call)
        assert refusal.reason == "OLDER_SERVERS"
        assert f"{feature} need release 0.3.0" in refusal.message
        assert "0.2.0 or older in slot " in refusal.message
    assert last_revisions(url) == stood
    assert query(url, "SELECT oldest_code FROM compatibility") != [(NEW_KEYS.schema,)]

    assert servers[0].terminate() == 0
    forget_beats(url)
    for call, _ in calls:
        call()
    assert query(url, "SELECT oldest_code FROM compatibility") == [(NEW_KEYS.schema,)]
    after.start(new_arm.name)
    assert after.choose(new_arm.name, eligible_arms=["openai/gpt-4.1"]).arm == "openai/gpt-4.1"
    refused_start = old.run("serve", "--listen", "127.0.0.1:0", *flags, folder=tmp_path)
    assert refused_start.returncode == 1
    assert f"needs code of schema {NEW_KEYS.schema} or later" in refused_start.stderr
    assert servers[1].terminate() == 0


def test_an_old_description_locks_nothing(
    old: OldRelease, servers: list[ServerProcess], tmp_path: Path, connect: Connect
) -> None:
    """A description that breaks today's rule is kept, served and escaped; every other field can be changed.

    Another one that breaks the rule is refused, and so is the same one for another experiment.
    """
    text = "red\x1b[31m \u202e\x00\x85 end"
    file = tmp_path / "bandit.db"
    servers.append(old.start(file))
    name = connect(servers[-1]).running(description=text)
    assert servers[-1].terminate() == 0
    servers.append(ServerProcess.start(file))
    wire = connect(servers[-1])
    works([wire], name)
    assert wire.get(name).description == text
    shown = run_command("experiment", "show", name, "--server", servers[-1].address, folder=tmp_path)
    assert "\\u001b[31m \\u202e\\u0000\\u0085 end" in shown.stdout
    (tmp_path / "shown.toml").write_text(shown.stdout.replace('"30d"', '"20d"'))
    applied = run_command(
        "experiment", "apply", "shown.toml", "--server", servers[-1].address, folder=tmp_path
    )
    assert applied.returncode == 0, applied.stderr
    assert wire.get(name).description == text
    assert wire.get(name).max_decision_age.seconds == 20 * 86_400
    for call in (
        lambda: wire.update(experiment(name=name, description=text + "!"), "description"),
        lambda: wire.create(experiment(description=text)),
    ):
        assert "U+001B at position 4 is a control character" in refused(call).violations["description"]
    wire.pause(name)
    wire.update(experiment(name=name, description="plain"), "description")
    wire.conclude(name, "a")
    assert wire.get(name).description == "plain"
    assert servers[-1].terminate() == 0
