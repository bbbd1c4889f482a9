"""The keys file: what a start without the store signs and checks with. It is as secret as the keys.

A JSON object: `format`, `version`, `signing_key`, `keys`, key id to secret in hexadecimal, and `signs_at`,
key id to the instant from which it signs, for keys that take turns. The server keeps it up to date; it may
also be handed over by whoever hands over secrets, and be read-only.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from server.services.files import replace_file
from server.services.input_files import InputFileError, read_bytes
from server.store.records import KeyRing

_FORMAT: Final = "bandit-server keys"
_VERSION: Final = 1
_MODE: Final = 0o600
_OTHERS: Final = 0o077
_SHORTEST: Final = 16
_N_KEYS: Final = 256


class KeysFileError(Exception):
    """The keys file can't be used; the text says why, and holds no secret."""


def read_keys(path: Path) -> KeyRing:
    """The ring in a keys file.

    Raises:
        KeysFileError: It is not there, can't be read, or is none.
    """
    try:
        data = read_bytes(path, may_be_pipe=False)
    except InputFileError as error:
        raise KeysFileError(f"{path}: {error}") from error
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise KeysFileError(f"{path} is damaged, or no keys file") from None
    try:
        return _to_ring(body)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise KeysFileError(f"{path} is no keys file of this version") from None


def write_keys(path: Path, ring: KeyRing) -> None:
    """Writes a keys file that only its owner can read; OSError if it can't be written."""
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "signing_key": ring.signing_key,
        "keys": {str(key): secret.hex() for key, secret in sorted(ring.secrets.items())},
        "signs_at": {str(key): at.isoformat() for key, at in sorted(ring.signs_at.items())},
    }
    replace_file(path, (json.dumps(body, indent=2) + "\n").encode(), mode=_MODE)


def is_open_to_others(path: Path) -> bool:
    """Whether somebody beside its owner may read or write a keys file that is there."""
    return bool(path.stat().st_mode & _OTHERS)


def _to_ring(body: Any) -> KeyRing:
    if (body["format"], body["version"]) != (_FORMAT, _VERSION):
        raise ValueError("another format")
    secrets = {int(key): bytes.fromhex(secret) for key, secret in body["keys"].items()}
    signing_key = body["signing_key"]
    is_usable = signing_key in secrets and all(0 <= key < _N_KEYS for key in secrets)
    if not is_usable or any(len(secret) < _SHORTEST for secret in secrets.values()):
        raise ValueError("keys that can't sign")
    signs_at = {int(key): datetime.fromisoformat(at) for key, at in body.get("signs_at", {}).items()}
    if not signs_at.keys() <= secrets.keys() or any(at.tzinfo is None for at in signs_at.values()):
        raise ValueError("turns of keys that are not there, or without a time zone")
    return KeyRing(secrets, signing_key, signs_at)
