"""The keys file: keys to sign and verify with at a start without the store. It is as secret as they are.

A JSON object: `format`, `version`, `signing_key`, `keys`, key id to secret in hexadecimal, and `signs_at`,
key id to the instant from which it signs, for rotated keys. The server keeps it up to date; it may also be
provided read-only by a secrets manager.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from server.services.runtime.atomic_file import replace_file
from server.services.runtime.input_files import InputFileError, read_bytes
from server.store.records import KeyRing

_FORMAT: Final = "bandit-server keys"
_VERSION: Final = 1
_MODE: Final = 0o600
_OTHERS: Final = 0o077
_SHORTEST: Final = 16
_N_KEYS: Final = 256
_MOST_BYTES: Final = 1 << 20
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""No working clock dates turns later, and a day in which the key may still have signed must fit after one."""


class KeysFileError(Exception):
    """The keys file can't be used; the message is the reason, and contains no secret."""


def read_keys(path: Path) -> KeyRing:
    """Return the ring in a keys file.

    Raises:
        KeysFileError: It is missing, or can't be read or used.
    """
    try:
        data = read_bytes(path, most_bytes=_MOST_BYTES, may_be_pipe=False)
    except InputFileError as error:
        raise KeysFileError(f"{path}: {error}") from error
    if len(data) > _MOST_BYTES:
        raise KeysFileError(f"{path} is larger than any keys file")
    try:
        body = json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise KeysFileError(f"{path} is damaged, or not a keys file") from None
    try:
        return _to_ring(body)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise KeysFileError(f"{path} is not a keys file of this version") from None


def write_keys(path: Path, ring: KeyRing) -> None:
    """Write a keys file that only its owner can read; OSError if it can't be written."""
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "signing_key": ring.signing_key,
        "keys": {str(key): secret.hex() for key, secret in sorted(ring.secrets.items())},
        "signs_at": {str(key): at.isoformat() for key, at in sorted(ring.signs_at.items())},
    }
    replace_file(path, (json.dumps(body, indent=2) + "\n").encode(), mode=_MODE)


def is_open_to_others(path: Path) -> bool:
    """Return whether users other than this one and root may read or write a file; False if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return False
    return bool(found.st_mode & _OTHERS) or found.st_uid not in {0, os.geteuid()}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError if a name occurs twice, since readers may take either value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _to_ring(body: Any) -> KeyRing:
    if (body["format"], body["version"]) != (_FORMAT, _VERSION):
        raise ValueError("another format")
    secrets = {_to_id(key): bytes.fromhex(secret) for key, secret in body["keys"].items()}
    signing_key = body["signing_key"]
    is_usable = type(signing_key) is int and signing_key in secrets
    if not is_usable or any(len(secret) < _SHORTEST for secret in secrets.values()):
        raise ValueError("keys that can't sign")
    signs_at = {_to_id(key): datetime.fromisoformat(at) for key, at in body.get("signs_at", {}).items()}
    if not signs_at.keys() <= secrets.keys():
        raise ValueError("turns of missing keys")
    if not all(at.tzinfo is not None and _EARLIEST <= at <= _LATEST for at in signs_at.values()):
        raise ValueError("turns without a time zone, or out of range")
    return KeyRing(secrets, signing_key, signs_at)


def _to_id(text: str) -> int:
    """Return a key id written in its canonical form, so that none occurs twice; ValueError otherwise."""
    key = int(text)
    if text != str(key) or not 0 <= key < _N_KEYS:
        raise ValueError("not a key id")
    return key
