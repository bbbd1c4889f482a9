"""Assignment of units to arms: a function of salt, unit and shares, the same in every process and language.

Weighted rendezvous hashing (Thaler & Ravishankar 1998; weights after Schindelhauer & Schomaker 2005): every
arm a gets a number u_a in (0, 1) from the unit's hash and its own key, and the arm with the least
``-ln(u_a) / share_a`` wins. Those scores are independent exponentials whose rates are the shares, so arm a
wins with probability exactly ``share_a``. When shares move, at most ``2 TV / (1 + TV)`` of the units change
arm, where TV is the total variation distance between old and new shares. No stateless scheme can promise
less (Bavarian et al. 2020).

The algorithm, bit by bit, on unsigned 64-bit integers that wrap; ``assignment_vectors.json`` holds examples:

1. ``h`` = BLAKE2b of the unit's UTF-8 bytes, key = the experiment's 16-byte salt, 8 bytes, little-endian.
2. ``k`` = BLAKE2b of the arm id's UTF-8 bytes, personalisation ``bandit-arm`` padded with zeros to
   16 bytes, 8 bytes, little-endian.
3. ``x = (h ^ k) * 0xFF51AFD7ED558CCD``; then ``x = (x ^ x >> 32) * 0xC4CEB9FE1A85EC53``.
4. ``u = (x >> 11 | 1) * 2**-53``: odd multiples of 2**-53, exact in a double, never 0 and never 1.
5. The arm with the least ``-ln(u) / share`` in double precision wins, over the arms with a positive share;
   in a tie, which happens about once in 10**15 units, the first of them.

Both factors are those of MurmurHash3's finaliser (Appleby 2011). Its outer shifts are left out: ``h`` and
``k`` are hashes already, and only the top bits of the last product, which are mixed best, are used.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import fsum, inf, isfinite, log
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bandit.number_text import beside
from bandit.wrong_types import require, wrong_type

_Integers: TypeAlias = NDArray[np.uint64]
_Floats: TypeAlias = NDArray[np.float64]

SALT_BYTES = 16

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_FIRST_FACTOR = 0xFF51_AFD7_ED55_8CCD
_SECOND_FACTOR = 0xC4CE_B9FE_1A85_EC53
_UNIT_SCALE = 2.0**-53
_SHARE_SUM_TOLERANCE = 1e-9

# From here on a dozen numpy calls cost less than a loop in Python (measured: they break even at 7 arms).
_VECTOR_FROM_ARMS = 8

# Units per pass of numpy: enough that its two dozen calls cost little per unit, and few enough that the
# arrays stay in the processor's cache; fewer than 8 cost less one by one (measured).
_UNITS_AT_ONCE = 256
_AT_ONCE_FROM_UNITS = 8


def unit_hash(salt: bytes, unit: str) -> int:
    """Return the 64-bit hash of a unit in an experiment, in [0, 2**64); compute it once per request.

    Each experiment needs its own salt: under one salt, a unit's arms in two experiments would be correlated.

    Raises:
        TypeError: `salt` is not bytes, or `unit` is not a str.
        ValueError: `salt` is not 16 bytes long.

    >>> unit_hash(bytes(16), "user-1")
    14605541769089732664
    """
    try:
        return UnitHasher(salt)(unit.encode())
    except (AttributeError, TypeError):
        require("salt", salt, bytes | bytearray, "bytes")
        require("unit", unit, str, "a str")
        raise


class UnitHasher:
    """`unit_hash` under one salt, for repeated use: copying a keyed hash costs half as much as keying one.

    Raises:
        ValueError: `salt` is not 16 bytes long.

    >>> UnitHasher(bytes(16))(b"user-1") == unit_hash(bytes(16), "user-1")
    True
    """

    __slots__ = ("_keyed",)

    def __init__(self, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise ValueError(f"salt must be {SALT_BYTES} bytes long, got {len(salt)}")
        self._keyed = blake2b(key=salt, digest_size=8)

    def __call__(self, unit: bytes) -> int:
        """Return the hash of a unit, given in UTF-8."""
        hashed = self._keyed.copy()
        hashed.update(unit)
        return int.from_bytes(hashed.digest(), "little")


def arm_key(arm_id: str) -> int:
    """Return the 64-bit key of an arm, in [0, 2**64); it depends on the arm's id only.

    >>> arm_key("champion")
    15013636353242398421
    """
    try:
        encoded = arm_id.encode()
    except AttributeError as error:
        raise wrong_type("an arm id", arm_id, "a str") from error
    return int.from_bytes(blake2b(encoded, person=b"bandit-arm", digest_size=8).digest(), "little")


class _Columns(NamedTuple):
    """The arms with a positive share, in order: their indices, their keys, and -1 / share."""

    indices: list[int]
    keys: _Integers
    rates: _Floats


class Picker:
    """The shares of one epoch, compiled for picking arms.

    Takes the arms' ids, unique, and their shares in the same order: finite, not negative, summing to 1 within
    1e-9 (they are then normalised). Arms with share 0 are left out, so they are never picked. An instance
    reuses its buffers between calls and belongs to one thread.

    Raises:
        TypeError: the ids are one str or not all str, or the shares are not a sequence of numbers.
        ValueError: there is no arm, ids repeat, lengths differ, or the shares are invalid.

    >>> picker = Picker(["champion", "challenger", "retired"], [0.75, 0.25, 0.0])
    >>> picker.arm_ids[picker.pick(unit_hash(bytes(16), "user-1"))]
    'challenger'
    >>> picker.draw(0.74), picker.draw(0.75), picker.draw(0.999)
    (0, 1, 1)
    """

    __slots__ = ("_columns", "_inner_edges", "_rows", "_vector", "arm_ids", "shares")

    arm_ids: tuple[str, ...]
    shares: tuple[float, ...]

    def __init__(self, arm_ids: Sequence[str], shares: Sequence[float] | NDArray[np.float64]) -> None:
        require("arm_ids", arm_ids, Iterable, "a sequence of arm ids")
        require("shares", shares, Iterable, "a sequence of numbers")
        if isinstance(arm_ids, str):
            raise wrong_type("arm_ids", arm_ids, "a sequence of arm ids")
        if isinstance(shares, str | Mapping):
            raise wrong_type("shares", shares, "a sequence of numbers, in the order of the arm ids")
        self.arm_ids = tuple(arm_ids)
        self.shares = _normalised(self.arm_ids, [float(share) for share in shares])
        kept = [index for index, share in enumerate(self.shares) if share > 0]
        self._rows = [(index, arm_key(self.arm_ids[index]), -1.0 / self.shares[index]) for index in kept]
        self._inner_edges = list(accumulate(self.shares[index] for index in kept))[:-1]
        self._columns: _Columns | None = None
        self._vector = _VectorRows(self.columns) if len(kept) >= _VECTOR_FROM_ARMS else None

    @property
    def columns(self) -> _Columns:
        """The arms as numpy arrays, built on first use."""
        if self._columns is None:
            indices, keys, rates = zip(*self._rows, strict=True)
            self._columns = _Columns(list(indices), np.array(keys, dtype=np.uint64), np.array(rates))
        return self._columns

    def pick(self, unit_hash: int) -> int:
        """Return the index in `arm_ids` of the arm that the unit with this hash gets; see `unit_hash`."""
        if self._vector is not None:
            return self._vector.pick(unit_hash)
        best_score = inf
        best_index = self._rows[0][0]
        for index, key, rate in self._rows:
            mixed = (unit_hash ^ key) * _FIRST_FACTOR & _MASK
            mixed = (mixed ^ mixed >> 32) * _SECOND_FACTOR & _MASK
            score = log((mixed >> 11 | 1) * _UNIT_SCALE) * rate
            if score < best_score:
                best_score = score
                best_index = index
        return best_index

    def draw(self, uniform: float) -> int:
        """Return the index in `arm_ids` of a random arm, for `uniform` drawn uniformly from [0, 1)."""
        return self._rows[bisect_right(self._inner_edges, uniform)][0]


def pick_each(pickers: Sequence[Picker], unit_hashes: Sequence[int]) -> list[int]:
    """Return each picker's `pick` for the hash at the same position.

    Many units share numpy's overhead: each costs a tenth of what it costs alone, among ten arms or a hundred
    (measured).
    """
    picked: list[int] = []
    for start in range(0, len(pickers), _UNITS_AT_ONCE):
        some = pickers[start : start + _UNITS_AT_ONCE], unit_hashes[start : start + _UNITS_AT_ONCE]
        if len(some[0]) < _AT_ONCE_FROM_UNITS:
            picked += (picker.pick(hashed) for picker, hashed in zip(*some, strict=True))
        else:
            picked += _pick_at_once(*some)
    return picked


def _pick_at_once(pickers: Sequence[Picker], unit_hashes: Sequence[int]) -> Iterable[int]:
    if pickers.count(pickers[0]) == len(pickers):
        return _pick_alike(pickers[0].columns, unit_hashes)
    columns = [picker.columns for picker in pickers]
    lengths = np.array([len(each.indices) for each in columns])
    starts = np.cumsum(lengths) - lengths
    mixed = np.concatenate([each.keys for each in columns])
    mixed ^= np.repeat(np.array(unit_hashes, dtype=np.uint64), lengths)
    rates = np.concatenate([each.rates for each in columns])
    scores = _score(mixed, rates, np.empty_like(mixed), np.empty_like(rates))
    leasts = np.flatnonzero(scores == np.repeat(np.minimum.reduceat(scores, starts), lengths))
    rows = leasts[np.searchsorted(leasts, starts)] - starts  # the first one in a tie
    return (each.indices[row] for each, row in zip(columns, rows.tolist(), strict=True))


def _pick_alike(columns: _Columns, unit_hashes: Sequence[int]) -> list[int]:
    """As `_pick_at_once`, of one picker: a row for each unit, and no arithmetic about where it begins."""
    mixed = np.bitwise_xor.outer(np.array(unit_hashes, dtype=np.uint64), columns.keys)
    scores = _score(mixed, columns.rates, np.empty_like(mixed), np.empty(mixed.shape))
    return [columns.indices[row] for row in scores.argmin(axis=1).tolist()]


class _VectorRows:
    """`Picker.pick` for many arms: the same arithmetic in numpy, each step written to a reused buffer."""

    __slots__ = ("_floats", "_hash", "_indices", "_keys", "_mixed", "_rates", "_shifted")

    def __init__(self, columns: _Columns) -> None:
        self._indices, self._keys, self._rates = columns
        self._hash = np.empty((), dtype=np.uint64)
        self._mixed = np.empty_like(self._keys)
        self._shifted = np.empty_like(self._keys)
        self._floats = np.empty_like(self._rates)

    def pick(self, unit_hash: int) -> int:
        self._hash[()] = unit_hash
        np.bitwise_xor(self._keys, self._hash, self._mixed)
        return self._indices[_score(self._mixed, self._rates, self._shifted, self._floats).argmin()]


def _score(mixed: _Integers, rates: _Floats, shifted: _Integers, floats: _Floats) -> _Floats:
    """Return scores from ``h ^ k``: steps 3 to 5 of the algorithm.

    Args:
        mixed: Unit hashes xor arm keys; overwritten.
        rates: -1 / share of each.
        shifted: Buffer of the same shape and type as `mixed`.
        floats: Buffer for the scores.
    """
    np.multiply(mixed, _FIRST_FACTOR_64, mixed)
    np.right_shift(mixed, _MIDDLE_SHIFT_64, shifted)
    np.bitwise_xor(mixed, shifted, mixed)
    np.multiply(mixed, _SECOND_FACTOR_64, mixed)
    np.right_shift(mixed, _LAST_SHIFT_64, mixed)
    np.bitwise_or(mixed, _ONE_64, mixed)
    # The top 53 bits are a positive int64 as well, and int64 converts to double in one instruction.
    np.multiply(mixed.view(np.int64), _UNIT_SCALE_64, floats)
    np.log(floats, floats)
    return np.multiply(floats, rates, floats)


# Zero-dimensional arrays: numpy would convert a Python number or a numpy scalar on every call.
_FIRST_FACTOR_64 = np.array(_FIRST_FACTOR, dtype=np.uint64)
_SECOND_FACTOR_64 = np.array(_SECOND_FACTOR, dtype=np.uint64)
_MIDDLE_SHIFT_64 = np.array(32, dtype=np.uint64)
_LAST_SHIFT_64 = np.array(11, dtype=np.uint64)
_ONE_64 = np.array(1, dtype=np.uint64)
_UNIT_SCALE_64 = np.array(_UNIT_SCALE)


def _normalised(arm_ids: tuple[str, ...], shares: Sequence[float]) -> tuple[float, ...]:
    if not arm_ids:
        raise ValueError("a picker needs at least one arm")
    if len(set(arm_ids)) != len(arm_ids):
        raise ValueError("arm ids must be unique")
    if len(shares) != len(arm_ids):
        raise ValueError(f"{len(arm_ids)} arms need as many shares, got {len(shares)}")
    if not all(isfinite(share) and share >= 0 for share in shares):
        raise ValueError("shares must be finite and not negative")
    total = fsum(shares)
    if abs(total - 1) > _SHARE_SUM_TOLERANCE:
        raise ValueError(f"shares must sum to 1, got {beside(total, 1)}")
    return tuple(share / total for share in shares)
