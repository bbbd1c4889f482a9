"""Decisions are counted in memory and added to the facts once, even if a commit was in doubt."""

from itertools import combinations

from bandit.decision_id import LOT_BITS, NO_UNIT, Basis, IdBits, new_id
from bandit.facts import DecisionKey
from server.services.choose.decision_counter import DecisionCounter
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.store.sql_store import SqlStore
from tests.bandit.builders import declare
from tests.services.support import Bench, epoch_with, flush_of, running
from tests.store.builders import INCARNATION, run, some_id


def decisions_of(store: SqlStore, number: int) -> dict[DecisionKey, int]:
    """Return the decision counts of an experiment."""
    found = store.read_facts(number)
    assert found is not None
    return dict(found.facts.decisions)


def compiled(number: int) -> CompiledExperiment:
    """An experiment that always answers with its champion."""
    record = running(declare(), number=number)
    return CompiledExperiment(record, epoch_with(record, {"champion": 1.0, "challenger": 0.0}))


def test_what_is_counted_is_flushed(store: SqlStore) -> None:
    """A flush has every decision counted so far, and the next one only those that came since."""
    number = run(store).number
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(number).offers(Basis.POLICY).offers[0]
    for n_decisions in (3, 4):
        for _ in range(n_decisions):
            counter.count(offer, some_id(), NO_UNIT)
        flush = flush_of(counter)
        assert flush is not None
        store.add_decisions(flush)
        counter.settle(flush)
    assert decisions_of(store, number) == {offer.key: 7}
    assert counter.totals == {(number, 0, Basis.POLICY): 7}


def test_a_flush_in_doubt_is_sent_again_as_it_was(store: SqlStore) -> None:
    """Until it is known to be stored, the same flush is sent under its number, and is added once."""
    number = run(store).number
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(number).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    in_doubt = flush_of(counter)
    assert in_doubt is not None
    store.add_decisions(in_doubt)  # stored, but the answer never arrived
    counter.count(offer, some_id(), NO_UNIT)
    again = flush_of(counter)
    assert again is in_doubt
    store.add_decisions(again)
    counter.settle(again)
    rest = flush_of(counter)
    assert rest is not None
    assert (rest.sequence, dict(rest.counts)) == (in_doubt.sequence + 1, {offer.key: 1})
    store.add_decisions(rest)
    counter.settle(rest)
    assert decisions_of(store, number) == {offer.key: 2}
    assert flush_of(counter) is None


def test_settling_another_flush_settles_nothing(store: SqlStore) -> None:
    """A flush that was settled already does not settle its successor."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(run(store).number).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    first = flush_of(counter)
    assert first is not None
    counter.settle(first)
    counter.count(offer, some_id(), NO_UNIT)
    second = flush_of(counter)
    counter.settle(first)
    assert flush_of(counter) is second


def test_without_counts_there_is_no_flush() -> None:
    """Without decisions there is nothing to send, and no number is used."""
    counter = DecisionCounter(Writer(INCARNATION, 3))
    assert flush_of(counter) is None
    offer = compiled(1).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    flush = flush_of(counter)
    assert flush is not None
    assert (flush.slot, flush.incarnation, flush.sequence) == (3, INCARNATION, 1)


def test_offers_of_one_key_are_counted_together() -> None:
    """Answers that were compiled twice, or given for other reasons, are one count if their key is one."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    for _ in range(2):
        counter.count(compiled(1).offers(Basis.POLICY).offers[0], some_id(), NO_UNIT)
    flush = flush_of(counter)
    assert flush is not None
    assert list(flush.counts.values()) == [2]


def test_counts_of_an_epoch_stay_with_it() -> None:
    """Decisions made before a new epoch are counted under the old one, though flushed after."""
    bench = Bench.of({"a": 1.0, "b": 0.0})
    bench.chooser.choose(bench.experiment, "user-1")
    bench.put(bench.experiment.record, epoch_with(bench.experiment.record, {"a": 1.0, "b": 0.0}, 2))
    bench.chooser.choose(bench.experiment, "user-1")
    flush = flush_of(bench.counter)
    assert flush is not None
    assert {key.epoch: count for key, count in flush.counts.items()} == {1: 1, 2: 1}


def lots(*nibbles: int) -> list[bytes]:
    """Return ids of decisions whose lots begin with these four bits."""
    return [new_id(1, IdBits(0, 0, nibble << LOT_BITS - 4, 0).pack()) for nibble in nibbles]


def test_a_first_epoch_is_counted_by_part() -> None:
    """A flush has the policy decisions of a first epoch by part as well, and of nothing else."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    first = compiled(1)
    second = CompiledExperiment(first.record, epoch_with(first.record, {"champion": 1.0}, 2))
    drawn = first.offers(Basis.POLICY).offers[0]
    others = [first.offers(Basis.UNCONFIRMED).offers[0], second.offers(Basis.POLICY).offers[0]]
    for offer in (drawn, compiled(1).offers(Basis.POLICY).offers[0], *others):
        for decision in lots(0, 1, 2, 7, 8, 15):
            counter.count(offer, decision, NO_UNIT)
    assert (counter.n_flushes, counter.count_waiting(1)) == (1, 24)
    flush = flush_of(counter)
    assert flush is not None
    assert flush.counts == {drawn.key: 12, **{offer.key: 6 for offer in others}}
    assert flush.parts == {drawn.key: (2, 2, 2, 2, 4)}
    assert counter.totals == {(1, 0, Basis.POLICY): 18, (1, 0, Basis.UNCONFIRMED): 6}


def test_parts_go_with_their_flush() -> None:
    """What comes after a flush in doubt is in the next one, by part too, and waits until then."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(1).offers(Basis.POLICY).offers[0]
    counter.count(offer, lots(0)[0], NO_UNIT)
    in_doubt = flush_of(counter)
    assert in_doubt is not None
    for decision in lots(15, 15):
        counter.count(offer, decision, NO_UNIT)
    assert (flush_of(counter), counter.n_flushes, counter.count_waiting(1)) == (in_doubt, 2, 3)
    assert in_doubt.parts == {offer.key: (1, 0, 0, 0, 0)}
    counter.settle(in_doubt)
    rest = flush_of(counter)
    assert rest is not None
    assert (rest.counts, rest.parts) == ({offer.key: 2}, {offer.key: (0, 0, 0, 0, 2)})
    counter.settle(rest)
    assert (flush_of(counter), counter.n_flushes) == (None, 0)


def test_a_new_run_keeps_or_drops_parts_with_their_counts() -> None:
    """Counts from before the first flush stay with a new run, by part; later ones are dropped whole."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(1).offers(Basis.POLICY).offers[0]
    counter.count(offer, lots(3)[0], NO_UNIT)
    assert counter.begin_run() == 0
    flush = flush_of(counter)
    assert flush is not None
    assert flush.parts == {offer.key: (0, 0, 1, 0, 0)}
    counter.settle(flush)
    counter.count(offer, lots(3)[0], NO_UNIT)
    assert counter.begin_run() == 1
    assert (flush_of(counter), counter.n_flushes, counter.count_waiting(1)) == (None, 0, 0)
    counter.count(offer, lots(9)[0], NO_UNIT)
    after = flush_of(counter)
    assert after is not None
    assert after.parts == {offer.key: (0, 0, 0, 0, 1)}


def test_callers_that_name_arms_do_not_grow_the_counts() -> None:
    """Offers that are compiled again and again, also while the store is away, share their counts by key."""
    shares = {f"arm-{number}": 0.1 for number in range(10)}
    bench = Bench.of(shares)
    subsets = [subset for size in (2, 3, 4) for subset in combinations(shares, size)]
    offers = set()
    for subset in subsets * 2:
        found = bench.experiment.offers_among(Basis.RESTRICTED, subset)
        assert found is not None
        offers.add(found.offers[0])
        bench.counter.count(found.offers[0], some_id(), NO_UNIT)
    assert len(offers) > len(subsets)
    assert len({offer.counted for offer in offers}) <= len(shares)
    assert bench.counter.count_waiting(1) == 2 * len(subsets)


def test_what_is_counted_while_a_flush_is_added_up_is_in_the_next() -> None:
    """A flush has what was handed over, even if it is added up later, in another thread."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(1).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    unsent = counter.next_flush()
    counter.count(offer, some_id(), NO_UNIT)
    assert unsent is not None
    flush = unsent.add_up()
    assert (flush.counts, unsent.experiment_to_n_drawn) == ({offer.key: 1}, {1: 1})
    assert counter.count_waiting(1) == 2
    counter.settle(flush)
    assert counter.count_waiting(1) == 1
