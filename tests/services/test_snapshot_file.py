"""Snapshot and keys on disk: what is read is what was written, and anything else is refused."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.experiment import Arm
from server.services.keys_file import KeysFileError, read_keys, write_keys
from server.services.snapshot import Snapshot
from server.services.snapshot_file import SnapshotFileError, read_snapshot, write_snapshot
from server.store.records import Changes, KeyRing, LiveExperiment
from tests.domain.builders import declare
from tests.services.support import ManualClock, epoch_with, running

RING = KeyRing({1: b"1" * 32, 2: b"2" * 32}, 2)
OTHER = KeyRing({2: b"x" * 32}, 2)
CONFIRMED_MS = 1_700_000_000_000


def live(name: str, number: int) -> LiveExperiment:
    """A running experiment with a payload that needs care."""
    arms = [Arm(id="champion", payload={"model": "é\u2028\n", "k": [1, None]}), Arm(id="challenger")]
    record = running(declare(name=name, arms=arms), number=number)
    return LiveExperiment(record, epoch_with(record, {"champion": 1 / 3, "challenger": 2 / 3}))


LIVE = (live("one", 1), live("two", 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A snapshot of two experiments."""
    file = tmp_path / "snapshot"
    write_snapshot(file, LIVE, CONFIRMED_MS, RING)
    return file


def test_what_is_read_is_what_was_written(path: Path) -> None:
    """Every field of experiments and epochs, and when they were confirmed."""
    kept = read_snapshot(path, RING)
    assert kept.live == LIVE
    assert kept.confirmed_ms == CONFIRMED_MS
    assert read_snapshot(path, KeyRing(RING.secrets, 1)).live == LIVE  # the key was rotated since


def header_with(**changes: object) -> Callable[[bytes], bytes]:
    """Changes fields of the header."""

    def change(data: bytes) -> bytes:
        head, _, body = data.partition(b"\n")
        return json.dumps(json.loads(head) | changes).encode() + b"\n" + body

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda _: b"", "is damaged, or no snapshot", id="empty"),
        pytest.param(lambda _: b"\x80\x04K\x01.", "is damaged, or no snapshot", id="another format"),
        pytest.param(lambda _: b"[1]\n", "is damaged, or no snapshot", id="other JSON"),
        pytest.param(lambda data: data[:100], "is damaged, or no snapshot", id="header cut"),
        pytest.param(lambda data: data[:-1], "is damaged", id="last byte lost"),
        pytest.param(lambda data: data + b"x", "is damaged", id="longer"),
        pytest.param(
            lambda data: data.replace(b'"number":2', b'"number":3'), "is damaged", id="a byte flipped"
        ),
        pytest.param(header_with(version=2), "is of version 2, this one reads version 1", id="newer"),
        pytest.param(header_with(confirmed_ms=CONFIRMED_MS + 1), "was not made with", id="made younger"),
        pytest.param(header_with(key=1), "was not made with", id="another key"),
        pytest.param(header_with(key=9), "was not made with", id="unknown key"),
        pytest.param(header_with(hmac="é"), "was not made with", id="no MAC"),
    ],
)
def test_anything_else_is_refused(path: Path, change: Callable[[bytes], bytes], text: str) -> None:
    """Torn, flipped, newer, made younger or by somebody else: each is refused with its reason."""
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SnapshotFileError, match=text):
        read_snapshot(path, RING)


def test_nobody_slips_a_snapshot_in(path: Path, tmp_path: Path) -> None:
    """One that is whole and made with other keys is refused, and so is none at all."""
    write_snapshot(path, LIVE, CONFIRMED_MS, OTHER)
    with pytest.raises(SnapshotFileError, match="was not made with one of the keys"):
        read_snapshot(path, RING)
    with pytest.raises(SnapshotFileError, match="no such file"):
        read_snapshot(tmp_path / "none", RING)


def test_a_write_that_fails_leaves_the_old_file(path: Path, tmp_path: Path) -> None:
    """There is never half a snapshot, nor one under another name."""
    before = path.read_bytes()
    draft = next(iter(tmp_path.glob("*.new")), None)
    assert draft is None
    with pytest.raises(OSError, match="No such file"):
        write_snapshot(tmp_path / "none" / "snapshot", LIVE, CONFIRMED_MS, RING)
    assert path.read_bytes() == before


def test_the_store_replaces_what_was_restored() -> None:
    """The first load ends a restored snapshot: what is gone goes, and what is older than it is taken."""
    clock = ManualClock()
    snapshot = Snapshot(clock)
    snapshot.restore(LIVE, 30.0)
    assert snapshot.age == timedelta(seconds=30)
    assert snapshot.find("one") is not None
    older = LiveExperiment(running(declare(name="two"), number=2, revision=1), None)
    assert snapshot.apply(Changes((older,), frozenset(), 7), clock.monotonic()) == [2]
    assert [live.record for live in snapshot] == [older.record]
    assert snapshot.find("one") is None
    assert not snapshot.is_restored
    assert snapshot.age == timedelta()


def test_keys_are_read_as_written(tmp_path: Path) -> None:
    """Ring and signing key."""
    write_keys(tmp_path / "keys", RING)
    assert read_keys(tmp_path / "keys") == RING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "bandit-server keys", "version": 2, "signing_key": 1, "keys": {}}',
        '{"format": "bandit-server keys", "version": 1, "signing_key": 1, "keys": {}}',
        '{"format": "bandit-server keys", "version": 1, "signing_key": 1, "keys": {"1": "aabb"}}',
        '{"format": "bandit-server keys", "version": 1, "signing_key": 1, "keys": ["1"]}',
        '{"format": "bandit-server keys", "version": 1, "signing_key": 1, "keys": {"1": "secret!"}}',
    ],
)
def test_bad_keys_are_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    """Another version, a ring that can't sign, a short secret: the error holds none of it."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeysFileError) as caught:
        read_keys(tmp_path / "keys")
    assert "secret!" not in str(caught.value)
    assert "aabb" not in str(caught.value)
