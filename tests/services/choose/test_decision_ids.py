"""Decision ids: which run and flush they name, and that no two are equal."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import decision_id
from bandit.decision_id import FLUSH_BITS, LOT_BITS, RUN_BITS, SAMPLE_BITS, Basis, IdBits, new_id, run_of
from server.services.choose.decision_counter import DecisionCounter
from server.services.choose.decision_ids import IdMaker
from server.services.runtime.writer import Writer
from tests.services.choose.test_decision_counter import compiled
from tests.services.support import flush_of
from tests.store.builders import INCARNATION

OFFER = compiled(1).offers(Basis.POLICY).offers[0]
PER_SECOND = 36_000
YEAR = 365.25 * 86_400
NOW_MS = 1_772_366_400_000


def maker(incarnation: bytes = INCARNATION, seed: int = 7) -> IdMaker:
    """A maker of ids for a run that has flushed nothing yet."""
    return IdMaker(DecisionCounter(Writer(incarnation, 0)), random.Random(seed))


def of_parent(decision_id: bytes) -> bytes:
    """Return what an id shares with those of its shadows: all but the last 16 bits."""
    return decision_id[: -SAMPLE_BITS // 8]


@given(
    time_ms=st.integers(0, 2**48 - 1),
    run=st.integers(0, 2**RUN_BITS - 1),
    flush=st.integers(0, 2**FLUSH_BITS - 1),
    lot=st.integers(0, 2**LOT_BITS - 1),
    sample=st.integers(0, 2**SAMPLE_BITS - 1),
)
def test_bits_are_read_as_they_were_packed(time_ms: int, run: int, flush: int, lot: int, sample: int) -> None:
    """Every field comes back from the id, which stays a UUIDv7 of its time."""
    bits = IdBits(run, flush, lot, sample)
    made = new_id(time_ms, bits.pack())
    assert IdBits.of(made) == bits
    assert int.from_bytes(made[:6]) == time_ms
    assert (made[6] >> 4, made[8] >> 6) == (7, 2)


@pytest.mark.parametrize("step_ms", [0, 1, -1])
def test_no_two_ids_of_a_run_are_equal(step_ms: int) -> None:
    """Where the clock stands still or runs back, ids differ even without the bits that shadows change.

    As many in one millisecond would repeat 20 random bits thousands of times.
    """
    ids = maker()
    made = [ids.make(NOW_MS + max(step_ms * number, -2_000)) for number in range(100_000)]
    assert len(set(map(of_parent, made))) == len(made)
    assert sorted(each[:6] for each in made) == [each[:6] for each in made]


def test_ids_follow_a_clock_that_was_put_right() -> None:
    """After the clock goes back an hour, that hour's ids do not share one instant."""
    ids = maker()
    ahead, right = NOW_MS + 3_600_000, NOW_MS + 5_000
    made = [ids.make(time_ms) for time_ms in (NOW_MS, ahead, right, right + 1, right)]
    times = [int.from_bytes(each[:6]) for each in made]
    assert times == [NOW_MS, ahead, right, right + 1, right + 1]


def test_a_millisecond_that_is_full_ends_early() -> None:
    """When a standing clock's millisecond is full, ids go on with the next one."""
    ids = maker()
    made = {of_parent(ids.make(NOW_MS)) for _ in range(2**19 + 1000)}
    assert len(made) == 2**19 + 1000
    assert {int.from_bytes(each[:6]) - NOW_MS for each in made} == {0, 1}


def test_runs_never_share_an_id() -> None:
    """Two runs with one seed at one instant draw the same bits, and make different ids."""
    one, other = maker(b"one" + bytes(13)), maker(b"two" + bytes(13))
    assert not {one.make(NOW_MS) for _ in range(1000)} & {other.make(NOW_MS) for _ in range(1000)}


def test_an_id_names_the_flush_that_carries_its_count() -> None:
    """Before, during and after a flush, in doubt or not, a decision is counted by the flush it names."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    ids = IdMaker(counter, random.Random(7))
    named: list[int] = []

    def decide() -> None:
        made = ids.make(NOW_MS)
        named.append(IdBits.of(made).flush)
        counter.count(OFFER, made, decision_id.NO_UNIT)

    carried: list[int] = []
    for n_decisions in (1, 3, 2):
        for _ in range(n_decisions):
            decide()
        flush = flush_of(counter)
        assert flush is not None
        decide()
        assert flush_of(counter) is flush  # still in doubt: what was counted since waits
        counter.settle(flush)
        carried += [flush.sequence % 2**FLUSH_BITS] * sum(flush.counts.values())
    assert named[: len(carried)] == carried
    assert {IdBits.of(ids.make(NOW_MS)).run} == {run_of(INCARNATION)}


def test_the_number_of_a_flush_wraps() -> None:
    """After 2^14 flushes the number starts again, and the run stays the same."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    ids = IdMaker(counter, random.Random(7))
    for _ in range(2**FLUSH_BITS - 1):
        counter.count(OFFER, bytes(16), decision_id.NO_UNIT)
        flush = flush_of(counter)
        assert flush is not None
        counter.settle(flush)
    bits = IdBits.of(ids.make(NOW_MS))
    assert (bits.run, bits.flush) == (run_of(INCARNATION), 0)


def test_a_new_run_begins_with_its_own_bits() -> None:
    """When a server takes another incarnation, ids and flushes carry it, and old counts are dropped."""
    writer = Writer(INCARNATION, 0)
    counter = DecisionCounter(writer)
    ids = IdMaker(counter, random.Random(7))
    for _ in range(2):
        counter.count(OFFER, bytes(16), decision_id.NO_UNIT)
        flush_of(counter)
    writer.incarnation = bytes(range(16))
    assert counter.begin_run() == 2
    assert flush_of(counter) is None
    bits = IdBits.of(ids.make(NOW_MS))
    assert (bits.run, bits.flush) == (run_of(writer.incarnation), 1)


def test_the_chances_of_equal_ids_are_those_that_are_stated() -> None:
    """At 36,000 decisions a second, the number of bits gives the figures stated in `bandit.decision_id`."""
    per_ms = Fraction(PER_SECOND, 1000)
    per_second = {bits: float(1000 * per_ms**2 / 2**bits) for bits in (LOT_BITS + SAMPLE_BITS, 74)}
    assert 1 / per_second[LOT_BITS + SAMPLE_BITS] / 3600 == pytest.approx(15, rel=0.05)
    assert 2**RUN_BITS / per_second[LOT_BITS + SAMPLE_BITS] / YEAR == pytest.approx(28_000, rel=0.05)
    assert 1 / (per_second[74] / 2) / YEAR == pytest.approx(9e8, rel=0.05)
    text = str(decision_id.__doc__)
    for figure in ("once in 15 hours", "28,000 years", "9 * 10^8 years"):
        assert figure in " ".join(text.split())
