"""Decisions are counted in memory and added to the facts once, even if a commit was in doubt."""

from bandit.decision_id import NO_UNIT, Basis
from bandit.facts import DecisionKey
from server.services.choose.decision_counter import DecisionCounter
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.store.sql_store import SqlStore
from tests.bandit.builders import declare
from tests.services.support import Bench, epoch_with, running
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
        flush = counter.flush()
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
    in_doubt = counter.flush()
    assert in_doubt is not None
    store.add_decisions(in_doubt)  # stored, but the answer never arrived
    counter.count(offer, some_id(), NO_UNIT)
    again = counter.flush()
    assert again is in_doubt
    store.add_decisions(again)
    counter.settle(again)
    rest = counter.flush()
    assert rest is not None
    assert (rest.sequence, dict(rest.counts)) == (in_doubt.sequence + 1, {offer.key: 1})
    store.add_decisions(rest)
    counter.settle(rest)
    assert decisions_of(store, number) == {offer.key: 2}
    assert counter.flush() is None


def test_settling_another_flush_settles_nothing(store: SqlStore) -> None:
    """A flush that was settled already does not settle its successor."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    offer = compiled(run(store).number).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    first = counter.flush()
    assert first is not None
    counter.settle(first)
    counter.count(offer, some_id(), NO_UNIT)
    second = counter.flush()
    counter.settle(first)
    assert counter.flush() is second


def test_without_counts_there_is_no_flush() -> None:
    """Without decisions there is nothing to send, and no number is used."""
    counter = DecisionCounter(Writer(INCARNATION, 3))
    assert counter.flush() is None
    offer = compiled(1).offers(Basis.POLICY).offers[0]
    counter.count(offer, some_id(), NO_UNIT)
    flush = counter.flush()
    assert flush is not None
    assert (flush.slot, flush.incarnation, flush.sequence) == (3, INCARNATION, 1)


def test_offers_of_one_key_are_counted_together() -> None:
    """Answers that were compiled twice, or given for other reasons, are one count if their key is one."""
    counter = DecisionCounter(Writer(INCARNATION, 0))
    for _ in range(2):
        counter.count(compiled(1).offers(Basis.POLICY).offers[0], some_id(), NO_UNIT)
    flush = counter.flush()
    assert flush is not None
    assert list(flush.counts.values()) == [2]


def test_counts_of_an_epoch_stay_with_it() -> None:
    """Decisions made before a new epoch are counted under the old one, though flushed after."""
    bench = Bench.of({"a": 1.0, "b": 0.0})
    bench.chooser.choose(bench.experiment, "user-1")
    bench.put(bench.experiment.record, epoch_with(bench.experiment.record, {"a": 1.0, "b": 0.0}, 2))
    bench.chooser.choose(bench.experiment, "user-1")
    flush = bench.counter.flush()
    assert flush is not None
    assert {key.epoch: count for key, count in flush.counts.items()} == {1: 1, 2: 1}
