"""Rotation of signing keys, which invalidates no open decision, and revocation."""

import base64
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import server.store
from bandit.decision_id import (
    NO_UNIT,
    Basis,
    DecisionTerms,
    InvalidDecisionError,
    Signer,
    new_id,
    unpack_terms,
)
from bandit.v1 import admin_pb2, bandit_pb2
from server.services.errors import RotationRefusedError
from server.services.runtime.async_store import AsyncStore
from server.services.signing_keys.rotation import KeyState, SigningKeys
from server.services.signing_keys.signers import GRACE
from server.services.snapshot.snapshot import Snapshot
from server.store.errors import KeysNotReadyError
from server.store.opening import open_dialect, open_store
from server.store.records import Action, KeyRing
from server.store.sql_store import SqlStore
from tests.bandit.builders import START
from tests.conftest import Connect, StartServer
from tests.replicas.conftest import running_replicas
from tests.services.support import ManualClock
from tests.store.builders import run
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import eventually
from tests.support.refusals import refused
from tests.support.wire import Wire

FIRST = KeyRing({1: b"1" * 32}, 1)
TERMS = DecisionTerms(1, 1, 7, 0, 0, Basis.POLICY, 0.5).pack()
SECOND = timedelta(seconds=1)
RECORDED, DUPLICATE = bandit_pb2.OUTCOME_RESULT_RECORDED, bandit_pb2.OUTCOME_RESULT_DUPLICATE


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Create an empty database of each backend."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bandit.db'}"
    postgresql: PostgresqlProcess = request.getfixturevalue("postgresql")
    return postgresql.create_database()


@pytest.fixture
def store(fresh_url: str) -> Iterator[SqlStore]:
    """Open a store of each backend with one key."""
    with closing(open_store(fresh_url)) as opened:
        opened.adopt_keys(FIRST)
        yield opened


def rotate(store: SqlStore, secret: bytes, *, memory: timedelta = GRACE, delay: float = 0.0) -> KeyRing:
    """Add a key that signs after `delay` seconds."""
    return store.rotate_keys(secret, START, delay=timedelta(seconds=delay), ended_before=START - memory)


def key_of(decision_id: str) -> int:
    """Return the key that signed a decision."""
    return base64.urlsafe_b64decode(decision_id)[1]


def test_a_rotation_adds_a_key_and_keeps_the_rest(store: SqlStore) -> None:
    """The new key is the newest, and the old key stays."""
    ring = rotate(store, b"2" * 32)
    assert ring.secrets == {1: b"1" * 32, 2: b"2" * 32}
    assert ring.signing_key == 2
    assert store.read_keys() == ring == store.adopt_keys(FIRST)
    assert rotate(store, b"3" * 32).signing_key == 3


def test_an_upgrade_keeps_the_keys(fresh_url: str) -> None:
    """Decisions signed before the schema had rotation stay valid."""
    dialect = open_dialect(fresh_url, is_owner=True)
    with dialect.writing(is_long=True) as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(server.store.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.execute(
            text("INSERT INTO signing_keys (id, secret, is_signing) VALUES (:id, :secret, :is_signing)"),
            {"id": 1, "secret": b"1" * 32, "is_signing": True},
        )
    dialect.close()
    with closing(open_store(fresh_url)) as store:
        assert store.adopt_keys(KeyRing({9: b"9" * 32}, 9)) == FIRST


def test_a_repeated_rotation_happens_once(store: SqlStore) -> None:
    """A rotation retried after a COMMIT in doubt happens once, with one audit entry."""
    assert rotate(store, b"2" * 32, delay=60) == rotate(store, b"2" * 32, delay=60)
    assert len(store.list_audit_entries(None, 10)) == 1


def test_a_second_rotation_waits_for_the_first(store: SqlStore) -> None:
    """A rotation is refused until every server has the newest key."""
    rotate(store, b"2" * 32, delay=60)
    with pytest.raises(KeysNotReadyError, match="still being distributed"):
        rotate(store, b"3" * 32)


def test_a_revoked_key_is_gone(store: SqlStore) -> None:
    """The other keys stay; a repeated revocation changes nothing, and has one audit entry."""
    rotate(store, b"2" * 32)
    ring = rotate(store, b"3" * 32)
    left = store.revoke_key(1, START)
    assert left.secrets == {2: b"2" * 32, 3: b"3" * 32}
    assert (left.signing_key, left.signed_until(2)) == (3, ring.signed_until(2))
    assert store.revoke_key(1, START) == store.read_keys() == left
    actions = [entry.action for entry in store.list_audit_entries(None, 10)]
    assert actions == [Action.REVOKE_KEY, Action.ROTATE_KEY, Action.ROTATE_KEY]


def test_a_key_that_signs_is_not_revoked(store: SqlStore) -> None:
    """Neither the newest key, nor the one before it during distribution of the newest, can be revoked."""
    rotate(store, b"2" * 32, delay=3600)
    for key in (1, 2):
        with pytest.raises(KeysNotReadyError, match=f"key {key} signs decisions; rotate first"):
            store.revoke_key(key, START)
    assert store.read_keys() is not None
    assert len(store.list_audit_entries(None, 10)) == 1


def test_key_ids_are_used_again_after_their_decisions_have_expired(tmp_path: Path) -> None:
    """After 256 keys the oldest key's id is used again, but not while its decisions may be accepted."""
    secrets = {key: f"secret number {key:3}".encode() for key in range(256)}
    turns = {key: START - (256 - key) * SECOND for key in secrets}
    with closing(open_store(f"sqlite:///{tmp_path / 'full.db'}")) as store:
        store.adopt_keys(KeyRing(secrets, 255, turns))
        with pytest.raises(KeysNotReadyError, match="all 256 key ids"):
            rotate(store, b"n" * 16, memory=256 * SECOND)
        with pytest.raises(KeysNotReadyError, match="all 256 key ids"):  # no time is trusted yet
            store.rotate_keys(b"n" * 16, START, delay=timedelta(), ended_before=None)
        ring = rotate(store, b"n" * 16, memory=254 * SECOND)
    assert ring.secrets == secrets | {0: b"n" * 16}
    assert ring.signing_key == 0


def test_each_instant_has_its_signing_key() -> None:
    """It is the newest key whose start has passed; without starts, the one marked as signing."""
    ring = KeyRing({1: b"", 2: b"", 3: b""}, 3, {1: START, 2: START + SECOND, 3: START + 9 * SECOND})
    at = [ring.signing_key_at(START + seconds * SECOND) for seconds in (0, 1, 8, 9)]
    assert at == [1, 2, 2, 3]
    assert [ring.signed_until(key) for key in (1, 2, 3)] == [START + SECOND, START + 9 * SECOND, None]
    assert FIRST.signing_key_at(START) == 1
    assert FIRST.signed_until(1) is None


def test_a_replaced_key_signs_nothing_new() -> None:
    """Decisions dated after a key's replacement are refused, as the key may have leaked."""
    end_ms = 1_800_000_000_000
    keys = {1: b"1" * 32, 2: b"2" * 32}
    signer = Signer(keys, 2, last_ms={1: end_ms})
    thief = Signer(keys, 1)
    assert signer.read(thief.sign(new_id(end_ms, 1), TERMS, NO_UNIT)).decided_ms == end_ms
    with pytest.raises(InvalidDecisionError):
        signer.read(thief.sign(new_id(end_ms + 1, 1), TERMS, NO_UNIT))
    assert signer.read(signer.sign(new_id(end_ms + 1, 1), TERMS, NO_UNIT)).decided_ms == end_ms + 1


async def test_the_clock_takes_the_steps_of_a_rotation(store: SqlStore) -> None:
    """A key is distributed, then signs; its predecessor verifies, and retires when its decisions expire."""
    async_store, clock = AsyncStore(store), ManualClock()
    run(store)
    snapshot = Snapshot(clock)
    snapshot.apply(store.load_changes(None), clock.monotonic())
    (live,) = list(snapshot)
    keys = SigningKeys(async_store, snapshot, clock, convergence=SECOND)
    keys.take(FIRST)
    at = START + 60 * SECOND
    keys.take(KeyRing({1: b"1" * 32, 2: b"2" * 32}, 2, {1: START - SECOND, 2: at}))
    decision = keys.signer.sign(new_id(clock.time_ms(), 1), TERMS, NO_UNIT)

    def states() -> list[KeyState]:
        ring = KeyRing({1: b"1" * 32, 2: b"2" * 32}, 2, {1: START - SECOND, 2: at})
        return [key.state for key in keys.describe(ring)]

    assert (key_of(decision), states()) == (1, [KeyState.DISTRIBUTING, KeyState.SIGNING])
    clock.advance(60)
    keys.turn()
    assert key_of(keys.signer.sign(new_id(clock.time_ms(), 1), TERMS, NO_UNIT)) == 2
    assert keys.signer.read(decision).terms == unpack_terms(TERMS)
    assert states() == [KeyState.SIGNING, KeyState.VERIFYING]
    clock.advance((live.record.experiment.max_decision_age + GRACE).total_seconds())
    assert states() == [KeyState.SIGNING, KeyState.RETIRED]
    assert keys.signer.read(decision).terms == unpack_terms(TERMS)
    async_store.close()


async def test_no_key_is_rotated_while_the_clock_is_in_doubt(store: SqlStore) -> None:
    """Rotation depends on the clock and is refused; the current key continues to sign."""
    async_store, clock = AsyncStore(store), ManualClock()
    keys = SigningKeys(async_store, Snapshot(clock), clock, convergence=timedelta())
    await keys.refresh()
    clock.is_doubted = True
    with pytest.raises(RotationRefusedError, match="in doubt"):
        await keys.rotate("ops")
    clock.is_doubted = False
    assert len(await keys.rotate("ops")) == 2
    async_store.close()


def rotated(wire: Wire) -> list[tuple[int, int]]:
    """Rotate, and return the keys and their states."""
    response = wire.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=20)
    return [(key.id, key.state) for key in response.keys]


def test_decisions_outlive_rotation_and_restart(start_server: StartServer, connect: Connect) -> None:
    """An earlier id can be rewarded once, repeated and pinned, at once and after a restart."""
    started = start_server()
    wire = connect(started)
    name = wire.running()
    first, second = (wire.choose(name, unit="u").decision_id for _ in range(2))
    assert rotated(wire) == [
        (2, admin_pb2.DECISION_KEY_STATE_SIGNING),
        (1, admin_pb2.DECISION_KEY_STATE_VERIFYING),
    ]
    new = wire.choose(name).decision_id
    assert (key_of(first), key_of(new)) == (1, 2)
    assert wire.reward(first, {"click": 1.0}) == {"click": RECORDED}
    assert wire.choose(name, unit="u", previous_decision_id=second).decision_id == second
    rotated(wire)
    assert started.terminate() == 0
    wire = connect(start_server())
    assert wire.reward(first, {"click": 1.0}) == {"click": DUPLICATE}
    assert wire.reward(second, {"click": 1.0}) == {"click": RECORDED}
    assert wire.reward(new, {"click": 1.0}) == {"click": RECORDED}
    assert wire.choose(name, unit="u", previous_decision_id=second).decision_id == second
    assert key_of(wire.choose(name).decision_id) == 3


def revoke(wire: Wire, key: int) -> list[int]:
    """Revoke a key, and return the remaining ones."""
    response = wire.admin.RevokeDecisionKey(admin_pb2.RevokeDecisionKeyRequest(id=key), timeout=20)
    return [each.id for each in response.keys]


def test_decisions_of_a_revoked_key_are_refused(start_server: StartServer, connect: Connect) -> None:
    """Its decisions are refused, at once and after a restart; recorded outcomes stay, and new ones count."""
    started = start_server()
    wire = connect(started)
    name = wire.running()
    rewarded, still_open = (wire.choose(name, unit="u").decision_id for _ in range(2))
    wire.reward(rewarded, {"click": 1.0})
    for wrong in (1, 7, -1):
        assert refused(partial(revoke, wire, wrong)).reason == "REVOCATION_REFUSED"
    unsaid = admin_pb2.RevokeDecisionKeyRequest()
    assert refused(partial(wire.admin.RevokeDecisionKey, unsaid, timeout=20)).reason == "INVALID_INPUT"
    rotated(wire)
    assert revoke(wire, 1) == [2]
    new = wire.choose(name, unit="u", previous_decision_id=still_open).decision_id
    assert key_of(new) == 2
    for _ in range(2):
        for decision in (rewarded, still_open):
            assert refused(partial(wire.reward, decision, {"click": 1.0})).reason == "DECISION_ID_INVALID"
        assert started.terminate() == 0
        started = start_server()
        wire = connect(started)
    assert wire.reward(new, {"click": 1.0}) == {"click": RECORDED}
    assert wire.n_outcomes(name) == 2


def test_every_replica_forgets_a_revoked_key(
    postgresql: PostgresqlProcess, tmp_path: Path, connect: Connect
) -> None:
    """When the call returns, no server credits what the key signed, and neither does one started later."""
    url = postgresql.create_database()
    with running_replicas(url, tmp_path) as start:
        one, other = map(connect, start(2))
        name = one.running()
        decision = other.choose(name).decision_id
        rotated(one)
        assert revoke(one, 1) == [2]
        assert refused(lambda: other.reward(decision, {"click": 1.0})).reason == "DECISION_ID_INVALID"
        (third,) = map(connect, start(1))
        assert refused(lambda: third.reward(decision, {"click": 1.0})).reason == "DECISION_ID_INVALID"
        assert third.reward(other.choose(name).decision_id, {"click": 1.0}) == {"click": RECORDED}


def test_replicas_use_each_others_keys(
    postgresql: PostgresqlProcess, tmp_path: Path, connect: Connect
) -> None:
    """After a rotation on one of them, all sign with the new key, and each credits what another signed.

    A replica that does not know the key, since it polls once a minute, reads the database before refusing.
    """
    url, slowly = postgresql.create_database(), ("--poll-seconds", "60", "--lag-seconds", "120")
    (tmp_path / "slow").mkdir()
    with (
        running_replicas(url, tmp_path) as start,
        running_replicas(url, tmp_path / "slow", *slowly) as start_slowly,
    ):
        one, other = map(connect, start(2))
        (behind,) = map(connect, start_slowly(1))
        name = one.running()
        before = behind.choose(name).decision_id
        rotated(one)
        assert key_of(one.choose(name).decision_id) == 2
        decision = eventually(
            lambda: other.choose(name).decision_id, until=lambda decision: key_of(decision) == 2
        )
        assert key_of(behind.choose(name).decision_id) == 1
        assert behind.reward(decision, {"click": 1.0}) == {"click": RECORDED}
        assert key_of(behind.choose(name).decision_id) == 2
        assert one.reward(before, {"click": 1.0}) == {"click": RECORDED}
