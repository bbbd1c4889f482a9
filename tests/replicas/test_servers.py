"""Four real servers on one PostgreSQL: they start together, and each learns every change made at another."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bandit.v1 import bandit_pb2
from server.store.opening import open_store
from tests.conftest import Connect
from tests.replicas.conftest import N_REPLICAS, running_replicas
from tests.store.builders import reward
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import eventually
from tests.support.wire import Wire, experiment, metric

POLL_SECONDS = 0.5
"""How often these servers poll: seldom enough that four on one core keep up."""

BOUND = 1.5 * POLL_SECONDS + 0.25
"""The convergence bound of these servers, as `postgresql.md` states it."""

SLACK = 1.0
"""Extra time for a busy machine, on top of a bound."""


@pytest.fixture(scope="module")
def wires(postgresql: PostgresqlProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Wire]]:
    """A channel to each of four servers that were started at the same moment on an empty database."""
    folder = tmp_path_factory.mktemp("replicas")
    polling = ("--poll-seconds", str(POLL_SECONDS))
    with running_replicas(postgresql.create_database(), folder, *polling) as start:
        opened = [Wire(server.address) for server in start(N_REPLICAS)]
        yield opened
        for wire in opened:
            wire.close()


def test_replicas_are_one_service(wires: list[Wire]) -> None:
    """Started together on an empty database, four servers answer as one, whichever is asked.

    A change returns when all replicas know it. One reward moves the shares of all, and a pause reaches all.
    Units keep their arms everywhere, and the ledger is exact.
    """
    name = wires[0].running()
    for wire in wires:
        assert wire.choose(name, unit="u").reason == bandit_pb2.REASON_POLICY
    posted = wires[1].choose(name)
    before = posted.epoch
    assert wires[2].reward(posted.decision_id, {"click": 1.0}) == {
        "click": bandit_pb2.OUTCOME_RESULT_RECORDED
    }
    within(lambda: min(wire.choose(name).epoch for wire in wires) > before)
    for wire in wires:
        assert wire.reward(posted.decision_id, {"click": 1.0}) == {
            "click": bandit_pb2.OUTCOME_RESULT_DUPLICATE
        }
    eventually(lambda: len({wire.choose(name).epoch for wire in wires}) == 1)
    eventually(lambda: is_one_service(wires, name))
    wires[3].pause(name)
    for wire in wires:
        assert wire.choose(name).reason == bandit_pb2.REASON_PAUSED
    changed = wires[1].get(name)
    changed.metrics.append(metric("later"))
    wires[1].update(changed, "metrics")
    for wire in wires:
        assert list(wire.reward(wire.choose(name).decision_id, {"later": 1.0})) == ["later"]
    assert wires[0].n_outcomes(name) > 0


def test_a_draft_is_known_everywhere(wires: list[Wire]) -> None:
    """One replica creates a draft, another starts it and a third concludes it, each right after the other."""
    declared = experiment()
    wires[0].create(declared)
    wires[1].start(declared.name)
    assert wires[2].choose(declared.name).arm in {"a", "b"}
    wires[2].conclude(declared.name, "b")
    assert {wire.choose(declared.name).arm for wire in wires} == {"b"}


def test_the_last_rewards_of_a_dead_replica_count(url: str, tmp_path: Path, connect: Connect) -> None:
    """What a replica committed right before it died, the others fold in soon after their next decision."""
    with running_replicas(url, tmp_path) as start:
        servers = start(2)
        first, second = map(connect, servers)
        name = first.running()
        servers[0].kill()
        before = second.choose(name).epoch
        commit_beside(url, name)
        eventually(lambda: second.choose(name).epoch > before, seconds=40)


def commit_beside(url: str, name: str) -> None:
    """Commit a reward as a replica does that dies before it has acted on it."""
    with closing(open_store(url)) as store:
        record = store.find_experiment(name)
        assert record is not None
        found = store.read_facts(record.number)
        assert found is not None
        entries = [reward(experiment=record.number, epoch=found.epochs[-1].number) for _ in range(5)]
        store.record_rewards(entries, 7)


def is_one_service(wires: list[Wire], name: str) -> bool:
    """True if every replica gives the same units the same arms at the same propensity, in one epoch."""
    answers = [
        [(c.epoch, c.arm, c.propensity) for c in (wire.choose(name, unit=f"u{n}") for n in range(20))]
        for wire in wires
    ]
    return all(answer == answers[0] for answer in answers)


def within(look: Callable[[], bool]) -> None:
    """Fail unless `look` turns true within the convergence bound and the time of a computation."""
    began_at = time.monotonic()
    eventually(look)
    assert time.monotonic() - began_at < BOUND + SLACK
