"""Callers and their roles. Only the SHA-256 of a token is known."""

import enum
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from bandit.validation import namespace_of
from server.services.errors import PermissionDeniedError
from server.store.contract import signing_keys

TOKEN_PREFIX: Final = "bandit_"  # noqa: S105 - the part that is not secret
"""Makes a leaked token recognisable to people and to scanners."""

MAX_TOKENS: Final = 2
"""Tokens valid at the same time for one caller: the one in use, and its replacement."""

_TOKEN_BYTES: Final = 32
_HASH_PREFIX: Final = "sha256:"


class Role(enum.StrEnum):
    """A permission of a caller. Operators may do what viewers may, and admins what both may.

    Approvers may do what viewers may, and approve steps of launches, which no other role may: so that whoever
    moves a launch can't also wave it through.
    """

    CHOOSE = "choose"
    REWARD = "reward"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    APPROVER = "approver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A client, or a person with one.

    Attributes:
        name: As in the audit.
        roles: Its permissions.
        namespaces: The namespaces that it may use; None for all, and for experiments without one.
        token_hashes: SHA-256 of its tokens, 32 bytes each.
        certificate_names: Common or alternative names in its client certificates.
        calls_per_second: Its rate limit; None for the server's default.
    """

    name: str
    roles: frozenset[Role]
    namespaces: frozenset[str] | None = None
    token_hashes: Sequence[bytes] = ()
    certificate_names: frozenset[str] = frozenset()
    calls_per_second: float | None = None

    def require_experiment(self, name: str) -> None:
        """Raise PermissionDeniedError unless the caller may use the experiment of this name."""
        if self.namespaces is not None and namespace_of(name) not in self.namespaces:
            raise PermissionDeniedError

    def require_everything(self) -> None:
        """Raise PermissionDeniedError if the caller is limited to namespaces."""
        if self.namespaces is not None:
            raise PermissionDeniedError(
                "a caller limited to namespaces may not change what all of them share"
            )


ANYONE: Final = Caller(name=signing_keys.ANYONE, roles=frozenset(Role))
"""The caller where callers are not authenticated; may do everything."""


class Directory:
    """The callers that a server knows.

    Args:
        callers: With distinct names, token hashes and certificate names.
    """

    def __init__(self, callers: Sequence[Caller]) -> None:
        self.callers = tuple(callers)
        self._by_certificate = {name: caller for caller in callers for name in caller.certificate_names}
        self.knows_certificates = bool(self._by_certificate)

    def find_by_hash(self, digest: bytes) -> Caller | None:
        """Return the caller with a token of this SHA-256, comparing every stored hash in constant time."""
        found = None
        for caller in self.callers:
            for token_hash in caller.token_hashes:
                if hmac.compare_digest(token_hash, digest):
                    found = caller
        return found

    def find_by_certificate(self, name: str) -> Caller | None:
        """Return the caller with this name in its certificate."""
        return self._by_certificate.get(name)


def new_token() -> str:
    """Return a token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    """Return the SHA-256 of a token; tokens are long and random, so no slow or salted hash is needed."""
    return sha256(token.encode()).digest()


def format_hash(digest: bytes) -> str:
    """Return a hash in the form of a tokens file."""
    return _HASH_PREFIX + digest.hex()


def parse_hash(text: str) -> bytes:
    """Return the digest in a hash that `format_hash` wrote; ValueError if `text` is not one."""
    digest = bytes.fromhex(text.removeprefix(_HASH_PREFIX))
    if not text.startswith(_HASH_PREFIX) or len(digest) != sha256().digest_size:
        raise ValueError("not a SHA-256 hash")
    return digest
