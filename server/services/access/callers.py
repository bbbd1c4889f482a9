"""Who calls, and what each may do. Tokens are known by their SHA-256 alone."""

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

TOKEN_PREFIX: Final = "bandit_"  # noqa: S105 - the part that is no secret
"""Makes a token that leaked recognisable to people and to scanners."""

MAX_TOKENS: Final = 2
"""Valid at once for one caller: the one in use, and the one that replaces it."""

_TOKEN_BYTES: Final = 32
_HASH_PREFIX: Final = "sha256:"


class Role(enum.StrEnum):
    """What a caller may be allowed to do. An operator may do what a viewer may, an admin what both may."""

    CHOOSE = "choose"
    REWARD = "reward"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who calls.

    Attributes:
        name: Stands in the audit.
        roles: What they may do.
        namespaces: To which experiments; None for all, those without a namespace included.
        token_hashes: SHA-256 of the tokens by which they are known, 32 bytes each.
        certificate_names: Common names or alternative names of client certificates by which they are known.
        calls_per_second: How often they may call; None for the server's own limit.
    """

    name: str
    roles: frozenset[Role]
    namespaces: frozenset[str] | None = None
    token_hashes: Sequence[bytes] = ()
    certificate_names: frozenset[str] = frozenset()
    calls_per_second: float | None = None

    def require_experiment(self, name: str) -> None:
        """Raises PermissionDeniedError unless the caller may use the experiment of this name."""
        if self.namespaces is not None and namespace_of(name) not in self.namespaces:
            raise PermissionDeniedError

    def require_everything(self) -> None:
        """Raises PermissionDeniedError if the caller is limited to namespaces."""
        if self.namespaces is not None:
            raise PermissionDeniedError("a caller limited to namespaces may not change what all share")


ANYONE: Final = Caller(name=signing_keys.ANYONE, roles=frozenset(Role))
"""The caller where callers need not say who they are: may do everything."""


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
        """The caller with a token of this SHA-256; every stored hash is compared, in constant time."""
        found = None
        for caller in self.callers:
            for token_hash in caller.token_hashes:
                if hmac.compare_digest(token_hash, digest):
                    found = caller
        return found

    def find_by_certificate(self, name: str) -> Caller | None:
        """The caller with this name in their certificate."""
        return self._by_certificate.get(name)


def new_token() -> str:
    """A token of 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token. A token is long and random, so that no slow or salted hash is needed."""
    return sha256(token.encode()).digest()


def format_hash(digest: bytes) -> str:
    """A hash as it stands in a tokens file."""
    return _HASH_PREFIX + digest.hex()


def parse_hash(text: str) -> bytes:
    """The inverse of `format_hash`; ValueError if it is none."""
    digest = bytes.fromhex(text.removeprefix(_HASH_PREFIX))
    if not text.startswith(_HASH_PREFIX) or len(digest) != sha256().digest_size:
        raise ValueError("no SHA-256")
    return digest
