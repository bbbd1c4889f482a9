"""The snapshot file: the snapshot on disk, so that a server can start without the store.

It has a header line, and a line for each experiment that was started. The header has the format, its version,
when the store last confirmed the experiments, the SHA-256 of the lines, and an HMAC over all that by a key of
the ring. A file that is torn, damaged, or was made without the keys is never used.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bandit.facts import Epoch
from server.services.runtime.atomic_file import replace_file
from server.services.runtime.input_files import InputFileError, opened, shown_value
from server.store.columns.times import from_micros, to_micros
from server.store.declaration_json import document_of, from_document
from server.store.records import ExperimentRecord, KeyRing, LiveExperiment, State

_FORMAT: Final = "bandit-server snapshot"
VERSION: Final = 1
_MODE: Final = 0o600
_MOST_HEADER_BYTES: Final = 4_096


class SnapshotFileError(Exception):
    """The snapshot file can't be used; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSnapshot:
    """The content of a snapshot file.

    Attributes:
        live: Every experiment that was started.
        confirmed_ms: When the store last confirmed them, in milliseconds since 1970.
    """

    live: tuple[LiveExperiment, ...]
    confirmed_ms: int


def write_snapshot(path: Path, live: Sequence[LiveExperiment], confirmed_ms: int, ring: KeyRing) -> None:
    """Replace the file, yielding the interpreter often; OSError if it can't be written."""
    pieces = []
    for each in live:
        pieces.append(to_line(each) + b"\n")
        time.sleep(0)  # the event loop answers Choose, and waits for this thread's lock
    body = b"".join(pieces)
    digest = hashlib.sha256(body).hexdigest()
    header = {
        "format": _FORMAT,
        "version": VERSION,
        "key": ring.signing_key,
        "confirmed_ms": confirmed_ms,
        "sha256": digest,
        "hmac": _mac(ring.secrets[ring.signing_key], confirmed_ms, digest),
    }
    replace_file(path, json.dumps(header).encode() + b"\n" + body, mode=_MODE)


def read_snapshot(path: Path, ring: KeyRing) -> KeptSnapshot:
    """Return the content of a file, if it is complete and was made with a key of the ring.

    A file made without such a key is not read beyond its header, and a file that was changed since is not
    loaded into memory, however large it is.

    Raises:
        SnapshotFileError: It is missing, unreadable, damaged, or of another version or deployment.
    """
    try:
        with opened(path, may_be_pipe=False) as file:
            confirmed_ms, digest = _check(path, file.readline(_MOST_HEADER_BYTES), ring)
            began_at = file.tell()
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise SnapshotFileError(f"{path} is damaged")
            file.seek(began_at)
            live = _read_lines(path, file, digest)
    except InputFileError as error:
        raise SnapshotFileError(f"{path}: {error}") from error
    return KeptSnapshot(live=live, confirmed_ms=confirmed_ms)


def _read_lines(path: Path, lines: Iterable[bytes], digest: str) -> tuple[LiveExperiment, ...]:
    """Return the experiments, if the lines still match the digest."""
    found = []
    seen = hashlib.sha256()
    try:
        for line in lines:
            seen.update(line)
            found.append(from_line(line))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise SnapshotFileError(f"{path} has content that this version can't read") from error
    if seen.hexdigest() != digest:
        raise SnapshotFileError(f"{path} was changed while it was read")
    return tuple(found)


def _check(path: Path, head: bytes, ring: KeyRing) -> tuple[int, str]:
    """Return when the lines were confirmed, and their digest; SnapshotFileError if the header is invalid."""
    try:
        header: Any = json.loads(head)
        name, version = header["format"], header["version"]
        key, confirmed_ms = int(header["key"]), int(header["confirmed_ms"])
        digest, mac = str(header["sha256"]), str(header["hmac"]).encode()
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise SnapshotFileError(f"{path} is damaged, or not a snapshot") from None
    if (name, version) != (_FORMAT, VERSION):
        raise SnapshotFileError(
            f"{path} has version {shown_value(version)}; this server reads version {VERSION}"
        )
    secret = ring.secrets.get(key)
    if secret is None or not hmac.compare_digest(_mac(secret, confirmed_ms, digest).encode(), mac):
        raise SnapshotFileError(f"{path} was not made with one of the keys of the keys file")
    return confirmed_ms, digest


def _mac(secret: bytes, confirmed_ms: int, digest: str) -> str:
    """Return the MAC, by a derived key, so that no decision's signature is ever valid for a snapshot."""
    key = hmac.digest(secret, b"snapshot", "sha256")
    return hmac.digest(key, f"{_FORMAT} {VERSION} {confirmed_ms} {digest}".encode(), "sha256").hex()


def to_line(live: LiveExperiment) -> bytes:
    """Return the line of an experiment and its epoch in force, without a line end."""
    record = live.record
    body = {
        "number": record.number,
        "state": record.state,
        "revision": record.revision,
        "created_at": to_micros(record.created_at),
        "updated_at": to_micros(record.updated_at),
        "started_at": to_micros(record.started_at),
        "concluded_at": to_micros(record.concluded_at),
        "document": document_of(record),
        "epoch": None if live.epoch is None else _epoch_to_json(live.epoch),
        "unknown": record.unknown,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_line(line: bytes) -> LiveExperiment:
    """Return the experiment in a line of `to_line`; KeyError, TypeError or ValueError for any other line."""
    body = json.loads(line)
    declaration = from_document(body["document"])
    record = ExperimentRecord(
        number=body["number"],
        experiment=declaration.experiment,
        state=State(body["state"]),
        revision=body["revision"],
        arm_numbers=declaration.arm_numbers,
        metric_numbers=declaration.metric_numbers,
        winner=declaration.winner,
        launch=declaration.launch,
        taken_priors=declaration.taken_priors,
        created_at=from_micros(body["created_at"]),
        updated_at=from_micros(body["updated_at"]),
        started_at=from_micros(body["started_at"]),
        concluded_at=from_micros(body["concluded_at"]),
        unknown=(*declaration.unknown, *body.get("unknown", ())),
    )
    return LiveExperiment(record, None if body["epoch"] is None else _epoch_from_json(body["epoch"]))


def _epoch_to_json(epoch: Epoch) -> dict[str, Any]:
    body = {
        "experiment": epoch.experiment,
        "segment": epoch.segment,
        "number": epoch.number,
        "nonce": epoch.nonce,
        "revision": epoch.revision,
        "started_at": to_micros(epoch.started_at),
        "champion": epoch.champion,
        "shares": dict(epoch.shares),
        "warming_up": sorted(epoch.warming_up),
        "means": {metric: dict(means) for metric, means in epoch.means.items()},
    }
    # Code from before shadows fails on the key, so it is there only where there is one.
    return body | {"shadows": dict(epoch.shadows)} if epoch.shadows else body


def _epoch_from_json(body: dict[str, Any]) -> Epoch:
    """Return the epoch in a JSON object, whose keys are numbers as text."""
    return Epoch(
        **body
        | {
            "started_at": from_micros(body["started_at"]),
            "shares": {int(arm): float(share) for arm, share in body["shares"].items()},
            "warming_up": frozenset(body["warming_up"]),
            "means": {
                int(metric): {int(arm): float(mean) for arm, mean in means.items()}
                for metric, means in body["means"].items()
            },
            "shadows": {int(arm): float(sample) for arm, sample in body.get("shadows", {}).items()},
        }
    )
