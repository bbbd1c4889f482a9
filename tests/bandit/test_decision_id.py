"""The decision id: what was signed can be read, and everything else is refused."""

import hashlib
import hmac
import random
import re
import string
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import decision_id as decision_module
from bandit.decision_id import (
    NO_UNIT,
    Basis,
    DecisionTerms,
    InvalidDecisionError,
    Signer,
    hash_lone_decision,
    hash_unit,
    new_id,
)

SALT = bytes(range(16))
RING = {3: b"k" * 32, 200: b"other" * 5}
SIGNER = Signer(RING, 3)
TERMS = DecisionTerms(
    experiment=17, epoch=4, nonce=0xDEADBEEF, segment=0, arm=2, basis=Basis.POLICY, propensity=0.25
)
ID = new_id(1_772_366_400_123, 0x2_A5A5_A5A5_A5A5_A5A5_A5)
TEXT = SIGNER.sign(ID, TERMS.pack(), hash_unit(SALT, b"user-1"))
ALPHABET = string.ascii_letters + string.digits + "-_"

words = st.integers(0, 2**32 - 1)
terms_of_any_kind = st.builds(
    DecisionTerms,
    experiment=words,
    epoch=words,
    nonce=words,
    segment=st.integers(0, 255),
    arm=st.integers(0, 2**16 - 1),
    basis=st.sampled_from(Basis),
    propensity=st.floats(0, 1, exclude_min=True),
)


def is_refused(text: str, signer: Signer = SIGNER) -> bool:
    """True if the text is refused with the only message that exists."""
    with pytest.raises(InvalidDecisionError) as caught:
        signer.read(text)
    return str(caught.value) == "the decision id was not issued by this service"


@given(terms=st.lists(terms_of_any_kind, max_size=20), seed=st.integers(0, 2**32 - 1))
def test_many_signed_at_once_are_signed_alike(terms: list[DecisionTerms], seed: int) -> None:
    """Decisions that are signed together have the same texts as when signed one by one."""
    generator = random.Random(seed)
    ids = [new_id(generator.getrandbits(48), generator.getrandbits(74)) for _ in terms]
    marks = [generator.randbytes(6) for _ in terms]
    packed = [each.pack() for each in terms]
    assert SIGNER.sign_each(ids, packed, marks) == list(map(SIGNER.sign, ids, packed, marks))


@given(
    terms=terms_of_any_kind,
    time_ms=st.integers(0, 2**48 - 1),
    bits=st.integers(0, 2**74 - 1),
    unit=st.none() | st.binary(max_size=300),
    key=st.sampled_from(sorted(RING)),
)
def test_what_is_signed_is_read(
    terms: DecisionTerms, time_ms: int, bits: int, unit: bytes | None, key: int
) -> None:
    """Signing and reading is the identity, for every term, under every key of the ring."""
    signer = Signer(RING, key)
    mark = NO_UNIT if unit is None else hash_unit(SALT, unit)
    text = signer.sign(new_id(time_ms, bits), terms.pack(), mark)
    decision = SIGNER.read(text)
    assert (decision.id, decision.terms, decision.unit_hash) == (new_id(time_ms, bits), terms, mark)
    assert decision.decided_ms == time_ms
    assert re.fullmatch(r"[A-Za-z0-9_-]{80}", text)


def test_every_flipped_bit_is_noticed() -> None:
    """With any single one of its 480 bits flipped, a decision id is refused."""
    raw = bytearray(urlsafe_b64decode(TEXT))
    for bit in range(len(raw) * 8):
        raw[bit // 8] ^= 1 << bit % 8
        assert is_refused(urlsafe_b64encode(raw).decode())
        raw[bit // 8] ^= 1 << bit % 8


@given(place=st.integers(0, 79), letter=st.sampled_from(ALPHABET))
def test_every_changed_letter_is_noticed(place: int, letter: str) -> None:
    """With any letter replaced, a decision id is refused: no two texts are the same decision."""
    changed = TEXT[:place] + letter + TEXT[place + 1 :]
    if changed != TEXT:
        assert is_refused(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT[:40],
        TEXT[4:],
        TEXT + "A",
        TEXT + "AAAA",
        TEXT + "\n",
        " " + TEXT[1:],
        TEXT[:-2] + "==",
        "=" * 80,
        "A" * 80,
        "\0" * 80,
        "ü" * 80,
        "\ud800" * 80,
        "\u202e" + TEXT[1:],
        "+" + TEXT[1:],
        "/" + TEXT[1:],
        "';DROP TABLE rewards".ljust(80, "A"),
    ],
    ids=range(18),
)
def test_what_is_no_decision_id_is_refused(text: str) -> None:
    """Texts that are truncated, extended, outside the alphabet or anything else get the same refusal."""
    assert is_refused(text)


@pytest.mark.parametrize(("standard", "url_safe"), [("+", "-"), ("/", "_")])
def test_only_one_spelling_is_accepted(standard: str, url_safe: str) -> None:
    """The standard alphabet's letters are refused in place of the URL-safe ones."""
    texts = (SIGNER.sign(new_id(n, n), TERMS.pack(), NO_UNIT) for n in range(100))
    text = next(text for text in texts if url_safe in text)
    assert SIGNER.read(text).terms == TERMS
    assert is_refused(text.replace(url_safe, standard))


def test_another_deployment_is_refused() -> None:
    """A key id with another secret and a key id that is not in the ring are refused alike."""
    assert is_refused(TEXT, Signer({3: b"x" * 32}, 3))
    assert is_refused(TEXT, Signer({4: RING[3]}, 4))


def test_a_retired_key_is_refused_and_a_rotated_one_is_not() -> None:
    """Decisions stay valid after a change of the signing key, as long as their key is in the ring."""
    assert Signer(RING, 200).read(TEXT).terms == TERMS
    assert is_refused(TEXT, Signer({200: RING[200]}, 200))


def _signed(body: bytes) -> str:
    """Return a body with a valid code, as only the owner of the key could make it."""
    return urlsafe_b64encode(body + hmac.digest(RING[3], body, "sha256")[:12]).decode()


def test_the_layout_is_the_documented_one() -> None:
    """The bytes have the order and sizes of the module's table, big-endian."""
    of_bytes, of_bits = str(decision_module.__doc__).split("The 74 bits")
    rows = re.findall(r"^\| (\d+) \|", of_bytes, re.MULTILINE)
    assert sum(map(int, re.findall(r"^\| (\d+) \|", of_bits, re.MULTILINE))) == 74
    sizes = [int(size) for size in rows]
    assert sizes == [1, 1, 16, 4, 4, 4, 1, 2, 1, 8, 6, 12]
    raw = urlsafe_b64decode(TEXT)
    assert len(raw) == sum(sizes)
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    fields = [raw[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    assert fields == [
        b"\x01",
        b"\x03",
        ID,
        (17).to_bytes(4),
        (4).to_bytes(4),
        bytes.fromhex("deadbeef"),
        b"\x00",
        (2).to_bytes(2),
        b"\x01",
        struct.pack(">d", 0.25),
        hash_unit(SALT, b"user-1"),
        hmac.new(RING[3], raw[:48], hashlib.sha256).digest()[:12],
    ]
    assert _signed(raw[:48]) == TEXT


@pytest.mark.parametrize("change", [(0, 2), (44 - 11, 9)], ids=["version", "basis"])
def test_a_field_of_a_later_version_is_refused(change: tuple[int, int]) -> None:
    """A version byte or a basis that this version does not know is refused, although the code is valid."""
    body = bytearray(urlsafe_b64decode(TEXT)[:48])
    place, value = change
    body[place] = value
    assert is_refused(_signed(bytes(body)))


@given(
    times=st.lists(st.integers(0, 2**48 - 1), min_size=2, max_size=2, unique=True),
    bits=st.tuples(st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1)),
)
def test_ids_are_ordered_by_time(times: list[int], bits: tuple[int, int]) -> None:
    """Ids sort by their milliseconds, whatever their random bits."""
    earlier, later = sorted(times)
    assert new_id(earlier, bits[0]) < new_id(later, bits[1])


@given(bits=st.lists(st.integers(0, 2**74 - 1), min_size=2, max_size=2, unique=True))
def test_random_bits_are_all_used(bits: list[int]) -> None:
    """Two ids of one millisecond differ if any of their 74 random bits does; both are UUIDs of version 7."""
    first, second = (new_id(123, value) for value in bits)
    assert first != second
    assert (first[6] >> 4, first[8] >> 6) == (7, 2)


def test_the_time_of_a_decision_is_read_from_its_id() -> None:
    """`decided_at` is the instant of the id, to the millisecond, UTC."""
    assert SIGNER.read(TEXT).decided_at == datetime(2026, 3, 1, 12, 0, 0, 123_000, UTC)


def test_units_are_marked_under_the_salt_of_their_experiment() -> None:
    """A unit's mark depends on the unit and the salt, not on a key that may be rotated."""
    marks = {hash_unit(SALT, b"a"), hash_unit(SALT, b"b"), hash_unit(bytes(16), b"a"), NO_UNIT}
    marks |= {hash_lone_decision(SALT, ID), hash_unit(SALT, ID)}
    assert len(marks) == 6
    assert hash_unit(SALT, b"a") == hash_unit(SALT, b"a")


def test_a_signer_needs_its_key() -> None:
    """A signing key that is not in the ring is refused."""
    with pytest.raises(ValueError, match=r"signing key 5 is not among the keys \[3, 200\]"):
        Signer(RING, 5)


def test_a_short_secret_is_refused() -> None:
    """A secret below 128 bits is refused, wherever it is in the ring, and is not in the message."""
    with pytest.raises(ValueError, match="at least 16 bytes") as caught:
        Signer({1: b"long enough to sign", 2: b"short"}, 1)
    assert "short" not in str(caught.value).replace("shorter", "")
