"""Signers built from a KeyRing, and a placeholder until keys are loaded."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NoReturn

from typing_extensions import override

from bandit.decision_id import Signer
from server.services.errors import StorageUnavailableError
from server.store.records import KeyRing

GRACE: Final = timedelta(days=1)
"""How long after its turn a key may still have signed, on a server that was cut off from the store."""


class UnknownKeys(Signer):
    """Stands in for keys that are not loaded yet: every call raises StorageUnavailableError."""

    def __init__(self) -> None:
        """Create a signer without keys."""

    @override
    def sign(self, decision_id: bytes, packed_terms: bytes, unit_hash: bytes) -> NoReturn:
        raise StorageUnavailableError

    @override
    def sign_each(
        self, decision_ids: Iterable[bytes], packed_terms: Iterable[bytes], unit_hashes: Iterable[bytes]
    ) -> NoReturn:
        raise StorageUnavailableError

    @override
    def read(self, text: str) -> NoReturn:
        raise StorageUnavailableError


def signer_of(ring: KeyRing, now: datetime) -> Signer:
    """Return a signer with the keys of a ring, whose turns are those of `now`."""
    return Signer(ring.secrets, ring.signing_key_at(now), last_ms=last_ms_of(ring))


def last_ms_of(ring: KeyRing) -> dict[int, int]:
    """Return key id to the latest time of its valid decisions, in ms; keys without an end are left out."""
    ends = {key: ring.signed_until(key) for key in ring.secrets}
    return {key: int((end + GRACE).timestamp() * 1000) for key, end in ends.items() if end is not None}


def is_same_deployment(ring: KeyRing, other: KeyRing) -> bool:
    """True if two rings belong to one deployment: they share a key, and no id has two secrets.

    >>> is_same_deployment(KeyRing({1: b"a", 2: b"b"}, 2), KeyRing({2: b"b", 3: b"c"}, 3))
    True
    >>> is_same_deployment(KeyRing({1: b"a"}, 1), KeyRing({1: b"b"}, 1))
    False
    """
    shared = ring.secrets.keys() & other.secrets.keys()
    return bool(shared) and all(ring.secrets[key] == other.secrets[key] for key in shared)
