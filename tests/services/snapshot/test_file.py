"""Snapshot and keys on disk: what is read is what was written, and anything else is refused."""

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.experiment import Arm
from bandit.launch.moves import promoted
from server.services.signing_keys.file import KeysFileError, read_keys, write_keys
from server.services.snapshot.file import KeptSnapshot, SnapshotFileError, read_snapshot, write_snapshot
from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, KeyRing, LiveExperiment
from tests.bandit.builders import declare
from tests.bandit.launch.launches import in_bandit, occasion
from tests.services.support import ManualClock, epoch_with, running

RING = KeyRing({1: b"1" * 32, 2: b"2" * 32}, 2)
OTHER = KeyRing({2: b"x" * 32}, 2)
CONFIRMED_MS = 1_700_000_000_000


def live(name: str, number: int) -> LiveExperiment:
    """A running experiment with a payload that is hard to encode."""
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
    """Every field of experiments and epochs, and when they were confirmed, is read as it was written."""
    kept = read_snapshot(path, RING)
    assert kept.live == LIVE
    assert kept.confirmed_ms == CONFIRMED_MS
    assert read_snapshot(path, KeyRing(RING.secrets, 1)).live == LIVE  # the key was rotated since


def test_a_launch_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A server that starts without its database keeps the same arms out of service."""
    launching = promoted(in_bandit("b"), "b", occasion(3))
    record = replace(running(launching.experiment), launch=launching.launch)
    kept_live = LiveExperiment(record, epoch_with(record, {"a": 0.05, "b": 0.93, "c": 0.01, "d": 0.01}))
    file = tmp_path / "snapshot"
    write_snapshot(file, [kept_live], CONFIRMED_MS, RING)
    (read,) = read_snapshot(file, RING).live
    assert read == kept_live
    assert read.record.arms_in_service == {"a", "b", "c", "d"}


def header_with(**changes: object) -> Callable[[bytes], bytes]:
    """Return the file with fields of its header changed."""

    def change(data: bytes) -> bytes:
        head, _, body = data.partition(b"\n")
        return json.dumps(json.loads(head) | changes).encode() + b"\n" + body

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda _: b"", "is damaged, or not a snapshot", id="empty"),
        pytest.param(lambda _: b"\x80\x04K\x01.", "is damaged, or not a snapshot", id="another format"),
        pytest.param(lambda _: b"[1]\n", "is damaged, or not a snapshot", id="other JSON"),
        pytest.param(lambda data: data[:100], "is damaged, or not a snapshot", id="header cut"),
        pytest.param(lambda data: data[:-1], "is damaged", id="last byte lost"),
        pytest.param(lambda data: data + b"x", "is damaged", id="longer"),
        pytest.param(
            lambda data: data.replace(b'"number":2', b'"number":3'), "is damaged", id="a byte flipped"
        ),
        pytest.param(lambda _: b"[" * 4_000 + b"\n", "is damaged, or not a snapshot", id="nested deeply"),
        pytest.param(header_with(key=float("inf")), "is damaged, or not a snapshot", id="no number of a key"),
        pytest.param(header_with(confirmed_ms=float("inf")), "is damaged, or not a snapshot", id="never"),
        pytest.param(header_with(sha256="0" * 64), "was not made with", id="another digest"),
        pytest.param(header_with(version=2), "has version 2; this server reads version 1", id="newer"),
        pytest.param(header_with(confirmed_ms=CONFIRMED_MS + 1), "was not made with", id="made younger"),
        pytest.param(header_with(key=1), "was not made with", id="another key"),
        pytest.param(header_with(key=9), "was not made with", id="unknown key"),
        pytest.param(header_with(hmac="é"), "was not made with", id="no MAC"),
    ],
)
def test_anything_else_is_refused(path: Path, change: Callable[[bytes], bytes], text: str) -> None:
    """A file that is torn, flipped, newer, made younger or someone else's is refused with its reason."""
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SnapshotFileError, match=text):
        read_snapshot(path, RING)


def test_a_snapshot_of_other_keys_is_refused(path: Path, tmp_path: Path) -> None:
    """A whole snapshot made with other keys is refused, and so is a missing one."""
    write_snapshot(path, LIVE, CONFIRMED_MS, OTHER)
    with pytest.raises(SnapshotFileError, match="was not made with one of the keys"):
        read_snapshot(path, RING)
    with pytest.raises(SnapshotFileError, match="no such file"):
        read_snapshot(tmp_path / "none", RING)


def test_every_bit_counts(path: Path) -> None:
    """A file with a bit flipped in any region, or cut anywhere, is refused, or still reads the same."""
    data = path.read_bytes()
    flipped = [(at, at * 7 % 8) for at in range(0, len(data), 3)]
    tampered = [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at, bit in flipped]
    tampered += [data[:at] for at in range(0, len(data), 23)]
    whole = KeptSnapshot(live=LIVE, confirmed_ms=CONFIRMED_MS)
    n_refused = 0
    for each in tampered:
        path.write_bytes(each)
        try:
            kept = read_snapshot(path, RING)
        except SnapshotFileError:
            n_refused += 1
        else:
            assert kept == whole
    assert n_refused > 0.99 * len(tampered)


def make_pipe(path: Path) -> None:
    """Make a pipe that no one writes to: opening it as a file waits for ever."""
    os.mkfifo(path)


def make_huge(path: Path) -> None:
    """Make the file far longer than it was."""
    with path.open("r+b") as file:
        file.truncate(1 << 26)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_pipe, "not a regular file"),
        (Path.mkdir, "not a regular file|is a directory"),
        (make_huge, "damaged|larger"),
    ],
)
def test_what_can_not_be_a_snapshot_file_is_refused_at_once(
    path: Path, tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    """A pipe is not read, and a file that has grown is not held in memory."""
    keys = tmp_path / "keys"
    write_keys(keys, RING)
    for file in (path, keys):
        if make is not make_huge:
            file.unlink()
        make(file)
    tracemalloc.start()
    with pytest.raises(SnapshotFileError, match=why):
        read_snapshot(path, RING)
    with pytest.raises(KeysFileError, match=why):
        read_keys(keys)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_write_that_fails_leaves_the_old_file(path: Path, tmp_path: Path) -> None:
    """A write that fails leaves neither half a snapshot nor a file under another name."""
    before = path.read_bytes()
    draft = next(iter(tmp_path.glob("*.new")), None)
    assert draft is None
    with pytest.raises(OSError, match="No such file"):
        write_snapshot(tmp_path / "none" / "snapshot", LIVE, CONFIRMED_MS, RING)
    assert path.read_bytes() == before


def test_the_store_replaces_what_was_restored() -> None:
    """The first load replaces a restored snapshot: deleted experiments go, older states are replaced."""
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
    """The ring and the signing key are read as they were written."""
    write_keys(tmp_path / "keys", RING)
    assert read_keys(tmp_path / "keys") == RING
    (tmp_path / "keys").write_text(keys_text("1", "1 2", '"2": "2026-01-01T00:00:00Z"'))
    assert read_keys(tmp_path / "keys").signing_key == 1


SECRET = "ab" * 32


def keys_text(signing_key: str, keys: str, turns: str = "") -> str:
    """Return a keys file whose keys are ids of one secret."""
    secrets = ", ".join(f'"{key}": "{SECRET}"' for key in keys.split())
    head = f'"format": "bandit-server keys", "version": 1, "signing_key": {signing_key}'
    return f'{{{head}, "keys": {{{secrets}}}, "signs_at": {{{turns}}}}}'


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
        keys_text("true", "1"),
        keys_text("1.0", "1"),
        keys_text("256", "256"),
        keys_text("1", "1 1"),
        keys_text("1", "1 01"),
        keys_text("1", "1", '"1": "9999-12-31T23:59:59+00:00"'),
        keys_text("1", "1", '"1": "0001-01-01T00:00:00+14:00"'),
        keys_text("1", "1", '"1": "2026-01-01T00:00:00"'),
        "[" * 100_000,
    ],
)
def test_bad_keys_are_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    """Another version, a ring that can't sign, a short secret and a repeated key: no error shows a secret."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(KeysFileError) as caught:
        read_keys(tmp_path / "keys")
    assert "secret!" not in str(caught.value)
    assert "aabb" not in str(caught.value)
    assert SECRET not in str(caught.value)
