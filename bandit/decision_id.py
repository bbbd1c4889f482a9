"""The decision id: a signed value that lets any server credit any reward without a lookup.

It has 60 bytes, big-endian, as 80 characters of URL-safe base64:

| bytes | field |
|---|---|
| 1 | version, 1 |
| 1 | id of the signing key |
| 16 | time-ordered unique id (UUIDv7, RFC 9562): milliseconds since 1970, then 74 bits (see below) |
| 4 | experiment |
| 4 | epoch number |
| 4 | epoch nonce: distinguishes the epoch from one with the same number in a restored database |
| 1 | segment |
| 2 | arm number |
| 1 | basis |
| 8 | propensity, IEEE 754 double |
| 6 | keyed hash of the unit; without a unit zero, or a hash of the unique id where units are counted |
| 12 | the first 12 bytes of HMAC-SHA256 over everything before |

It is signed but not encrypted, so it holds nothing secret: the unit itself is not in it.

The 74 bits that UUIDv7 leaves free are `IdBits`, from the highest:

| bits | field |
|---|---|
| 24 | the run of the server that decided; no two live runs have the same |
| 14 | which flush of that run carries the decision's count, modulo 2^14; time distinguishes the cycles |
| 20 | random, and unique within a millisecond of a run; the first four split a burst into parts |
| 16 | random; they decide whether a decision is sampled, and a shadow of it differs in these only |

So two ids of one run, or of two runs that the store knows, always differ, however fast decisions are made,
even without the last 16 bits. Two servers that started without the store have the same 24 bits with
probability 2^-24. If each decides 36,000 times a second, such a pair makes two equal ids once in 15 hours, so
over all pairs once in 28,000 years of running without the store. In ids made before 0.3.0 all 74 bits are
random: at 36,000 decisions a second two are equal once in 9 * 10^8 years.
"""

import binascii
import enum
import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, Self

VERSION: Final = 1
_MAC_BYTES: Final = 12
_TAIL: Final = struct.Struct(">IIIBHBd")
_HEAD_BYTES: Final = 2
_ID_BYTES: Final = 16
_UNIT_BYTES: Final = 6
_TIME: Final = slice(_HEAD_BYTES, _HEAD_BYTES + 6)
_UNIQUE_ID: Final = slice(_HEAD_BYTES, _HEAD_BYTES + _ID_BYTES)
_TERMS: Final = slice(_UNIQUE_ID.stop, _UNIQUE_ID.stop + _TAIL.size)
_UNIT: Final = slice(_TERMS.stop, _TERMS.stop + _UNIT_BYTES)
_LATEST_MS: Final = 2**48 - 1
_BODY_BYTES: Final = _HEAD_BYTES + _ID_BYTES + _TAIL.size + _UNIT_BYTES
TEXT_LENGTH: Final = (_BODY_BYTES + _MAC_BYTES) * 4 // 3
"""Characters of a decision id."""

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_+/", b"+/!!")
_ID: Final = struct.Struct(">QQ")
_UUID_VERSION: Final = 0x7 << 12
_UUID_VARIANT: Final = 0x2 << 62
_UUID_LOW_BITS: Final = (1 << 62) - 1
RUN_BITS: Final = 24
FLUSH_BITS: Final = 14
LOT_BITS: Final = 20
SAMPLE_BITS: Final = 16
_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_UNIT: Final = bytes(_UNIT_BYTES)
"""The unit hash of a decision without a unit."""


class Basis(enum.IntEnum):
    """The kind of a decision, which determines what it may be used for."""

    POLICY = 1
    """Drawn from the epoch's shares: steers, and enters inference."""
    RESTRICTED = 2
    """The caller allowed fewer arms: steers, but does not enter inference."""
    FALLBACK = 3
    """A certain answer (paused, concluded, stale, no eligible arm): neither steers nor enters inference."""
    UNCONFIRMED = 4
    """Made by a server that could not confirm its epoch in time: neither steers nor enters inference."""
    SHADOW = 5
    """Seen by an arm that did not answer: neither steers nor enters inference, but for pairs."""
    UNCOUNTED = 6
    """For outcomes only: their decision's count was lost with its server. Neither steers nor enters
    inference. Decisions never have this basis; their own basis stays in their id."""


LOSABLE: Final = frozenset({Basis.POLICY, Basis.RESTRICTED, Basis.SHADOW})
"""The bases that are compared: their outcomes become `UNCOUNTED` if their decision's count is lost."""

STEERING: Final = frozenset({Basis.POLICY, Basis.RESTRICTED})
"""The bases whose decisions and outcomes enter the posterior."""


class InvalidDecisionError(ValueError):
    """the decision id was not issued by this service."""

    def __init__(self) -> None:
        super().__init__("the decision id was not issued by this service")


class UnknownKeyError(InvalidDecisionError):
    """the decision id was not issued by this service, or its key is not known here yet."""


class DecisionTerms(NamedTuple):
    """The terms that all decisions for one arm of one epoch share.

    Attributes:
        experiment: The store's number for the experiment, in [1, 2^32).
        epoch: Number of the epoch, in [1, 2^32).
        nonce: The epoch's random mark, in [0, 2^32).
        segment: Number of the segment, in [0, 256).
        arm: The experiment's number for the arm, in [0, 2^16).
        basis: The kind of decision.
        propensity: The probability with which the arm was chosen, in (0, 1].
    """

    experiment: int
    epoch: int
    nonce: int
    segment: int
    arm: int
    basis: Basis
    propensity: float

    def pack(self) -> bytes:
        """Return the terms as encoded in the decision id."""
        return _TAIL.pack(
            self.experiment, self.epoch, self.nonce, self.segment, self.arm, self.basis, self.propensity
        )


@lru_cache(maxsize=8192)
def unpack_terms(packed: bytes) -> DecisionTerms:
    """Return the inverse of `DecisionTerms.pack`; cached, since the decisions of an epoch share their terms.

    Raises:
        ValueError: This version does not know the basis.
    """
    experiment, epoch, nonce, segment, arm, basis, propensity = _TAIL.unpack(packed)
    return DecisionTerms(experiment, epoch, nonce, segment, arm, Basis(basis), propensity)


class Decision(NamedTuple):
    """One answer of Choose, as read from its id.

    Attributes:
        id: The unique id, 16 bytes, ordered by time.
        terms: What was decided.
        unit_hash: Keyed hash of the unit, 6 bytes; `NO_UNIT` without a unit.
    """

    id: bytes
    terms: DecisionTerms
    unit_hash: bytes

    @property
    def decided_ms(self) -> int:
        """When the decision was made, in milliseconds since 1970."""
        high: int = _ID.unpack(self.id)[0]
        return high >> 16

    @property
    def decided_at(self) -> datetime:
        """When the decision was made."""
        return _EPOCH_START + timedelta(milliseconds=self.decided_ms)


class IdBits(NamedTuple):
    """The contents of the 74 bits of a unique id, since 0.3.0.

    Attributes:
        run: The run of the server that decided, in [0, 2^24).
        flush: The number of the flush that carries the decision's count, modulo 2^14.
        lot: Random, in [0, 2^20); unique within a millisecond of a run.
        sample: Random, in [0, 2^16).
    """

    run: int
    flush: int
    lot: int
    sample: int

    def pack(self) -> int:
        """Return the bits as `new_id` takes them.

        >>> IdBits(run=1, flush=0, lot=0, sample=0).pack() == 1 << 50
        True
        """
        above = (self.run << FLUSH_BITS | self.flush) << LOT_BITS | self.lot
        return above << SAMPLE_BITS | self.sample

    @classmethod
    def of(cls, decision_id: bytes) -> Self:
        """Return the bits of a unique id.

        >>> IdBits.of(new_id(7, IdBits(9, 8, 7, 6).pack()))
        IdBits(run=9, flush=8, lot=7, sample=6)
        """
        high, low = _ID.unpack(decision_id)
        bits = (high & 0xFFF) << 62 | low & _UUID_LOW_BITS
        above = bits >> SAMPLE_BITS
        return cls(
            bits >> FLUSH_BITS + LOT_BITS + SAMPLE_BITS,
            above >> LOT_BITS & (1 << FLUSH_BITS) - 1,
            above & (1 << LOT_BITS) - 1,
            bits & (1 << SAMPLE_BITS) - 1,
        )


def run_of(incarnation: bytes) -> int:
    """Return the 24 bits that identify a server's run in its decisions.

    >>> run_of(bytes(range(1, 17)))
    66051
    """
    return int.from_bytes(incarnation[: RUN_BITS // 8])


def new_id(time_ms: int, random_bits: int) -> bytes:
    """Return a UUIDv7 of `time_ms` milliseconds since 1970 and 74 random bits.

    >>> new_id(1, 0).hex()
    '00000000000170008000000000000000'
    """
    return _ID.pack(
        time_ms << 16 | _UUID_VERSION | random_bits >> 62, _UUID_VARIANT | random_bits & _UUID_LOW_BITS
    )


def hash_unit(salt: bytes, unit: bytes) -> bytes:
    """Return the 6-byte hash that marks a unit in its decisions; equals `NO_UNIT` with probability 2^-48.

    Keyed by the experiment's salt and not by a signing key: the mark stays the same for the experiment's
    life, so a key rotation does not turn a unit into a new one; and no one can link a unit's marks in two
    experiments.

    >>> hash_unit(bytes(16), b"user-1").hex()
    '050edae8a669'
    """
    return UnitMarker(salt)(unit)


class UnitMarker:
    """`hash_unit` under one salt, for repeated use: copying a keyed hash costs half as much as keying one.

    >>> UnitMarker(bytes(16))(b"user-1") == hash_unit(bytes(16), b"user-1")
    True
    """

    __slots__ = ("_keyed",)

    def __init__(self, salt: bytes) -> None:
        self._keyed = hashlib.blake2b(key=salt, person=b"bandit-unit", digest_size=_UNIT_BYTES)

    def __call__(self, unit: bytes) -> bytes:
        """Return the mark of a unit, given in UTF-8."""
        marked = self._keyed.copy()
        marked.update(unit)
        return marked.digest()


def hash_lone_decision(salt: bytes, decision_id: bytes) -> bytes:
    """Return the mark of a decision without a unit, which counts as a unit of its own."""
    return hashlib.blake2b(decision_id, key=salt, person=b"bandit-lone", digest_size=_UNIT_BYTES).digest()


class _Hash(Protocol):
    def copy(self) -> "_Hash": ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Mac:
    """HMAC-SHA256 (RFC 2104) under one key, truncated to 12 bytes; faster than `hmac.digest` on short texts.

    >>> expected = hmac.digest(b"k" * 32, b"text", "sha256")[:12]
    >>> _Mac(b"k" * 32)(b"text") == expected
    True
    """

    def __init__(self, secret: bytes) -> None:
        block = secret if len(secret) <= 64 else hashlib.sha256(secret).digest()  # noqa: PLR2004 - SHA-256's block
        block = block.ljust(64, b"\0")
        self._inner: _Hash = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer: _Hash = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def __call__(self, text: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(text)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:_MAC_BYTES]


class Signer:
    """Signs and checks decision ids with a ring of keys, which can be exchanged. Belongs to one thread.

    Args:
        keys: Key id, in [0, 256), to secret; decisions signed with any of them are accepted.
        signing_key: The id of the key for new decisions.
        last_ms: Key id to the latest time at which it can have signed, in milliseconds since 1970. Later
            decisions are rejected, since a key that was replaced may have leaked.

    Raises:
        ValueError: The signing key is not in the ring, or a secret is shorter than 16 bytes.
    """

    def __init__(
        self,
        keys: Mapping[int, bytes],
        signing_key: int,
        *,
        last_ms: Mapping[int, int] | None = None,
    ) -> None:
        self.exchange(keys, signing_key, last_ms=last_ms)

    def exchange(
        self,
        keys: Mapping[int, bytes],
        signing_key: int,
        *,
        last_ms: Mapping[int, int] | None = None,
    ) -> None:
        """Sign and check with this ring from now on; arguments and errors are those of the class."""
        if signing_key not in keys:
            raise ValueError(f"signing key {signing_key} is not among the keys {sorted(keys)}")
        if any(len(secret) < 16 for secret in keys.values()):  # noqa: PLR2004 - 128 bits
            raise ValueError("a signing secret must have at least 16 bytes")
        self._macs = {key_id: _Mac(secret) for key_id, secret in keys.items()}
        self._head = bytes((VERSION, signing_key))
        self._mac = self._macs[signing_key]
        self._last_ms = dict(last_ms or {})

    def sign(self, decision_id: bytes, packed_terms: bytes, unit_hash: bytes) -> str:
        """Return the decision id as text, 80 characters of `[A-Za-z0-9_-]`."""
        return _to_text(self._seal(decision_id, packed_terms, unit_hash))

    def sign_each(
        self, decision_ids: Iterable[bytes], packed_terms: Iterable[bytes], unit_hashes: Iterable[bytes]
    ) -> list[str]:
        """Return `sign` of each, encoded in one go: 60 bytes are exactly 80 characters of base64."""
        text = _to_text(b"".join(map(self._seal, decision_ids, packed_terms, unit_hashes)))
        return [text[start : start + TEXT_LENGTH] for start in range(0, len(text), TEXT_LENGTH)]

    def _seal(self, decision_id: bytes, packed_terms: bytes, unit_hash: bytes) -> bytes:
        body = self._head + decision_id + packed_terms + unit_hash
        return body + self._mac(body)

    def read(self, text: str) -> Decision:
        """Return the decision that `text` encodes.

        Raises:
            UnknownKeyError: It names a key that is not in the ring.
            InvalidDecisionError: It is forged, damaged, from another deployment, or was made after its key
                was replaced; the error does not reveal which.
        """
        body = self._authentic_body(text)
        try:
            terms = unpack_terms(body[_TERMS])
        except ValueError:
            raise InvalidDecisionError from None
        return Decision(body[_UNIQUE_ID], terms, body[_UNIT])

    def _authentic_body(self, text: str) -> bytes:
        if len(text) != TEXT_LENGTH:
            raise InvalidDecisionError
        try:
            raw = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL_SAFE), strict_mode=True)
        except ValueError:
            raise InvalidDecisionError from None
        body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        if body[0] != VERSION:
            raise InvalidDecisionError
        check = self._macs.get(body[1])
        if check is None:
            raise UnknownKeyError
        if not hmac.compare_digest(check(body), mac):
            raise InvalidDecisionError
        if self._last_ms and int.from_bytes(body[_TIME]) > self._last_ms.get(body[1], _LATEST_MS):
            raise InvalidDecisionError
        return body


def key_of(text: str) -> int:
    """Return the id of the key that signed a decision, from a text that `Signer.read` accepted."""
    return binascii.a2b_base64(text[:4].encode("ascii").translate(_FROM_URL_SAFE))[1]


def _to_text(sealed: bytes) -> str:
    return binascii.b2a_base64(sealed, newline=False).translate(_TO_URL_SAFE).decode("ascii")
