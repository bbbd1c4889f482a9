"""The snapshot never goes back, and knows its age."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from math import inf

import pytest

from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, ExperimentRecord, LiveExperiment, State
from tests.bandit.builders import START, declare
from tests.services.support import ManualClock, epoch_with, running

EVEN = {"champion": 0.5, "challenger": 0.5}


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def snapshot(clock: ManualClock) -> Snapshot:
    """An empty snapshot."""
    return Snapshot(clock)


def live(revision: int, number: int) -> LiveExperiment:
    """A running experiment at a revision and in an epoch."""
    record = running(revision=revision)
    return LiveExperiment(record, epoch_with(record, EVEN, number))


@pytest.mark.parametrize("order", list(permutations([(2, 1), (2, 2), (3, 3), (3, 4)], 4)))
def test_whatever_the_order_the_newest_stays(snapshot: Snapshot, order: tuple[tuple[int, int], ...]) -> None:
    """States of one experiment may arrive in any order: the latest revision and epoch stay in force."""
    for revision, number in order:
        snapshot.put(live(revision, number))
    assert snapshot.find_live(1) == live(3, 4)


def test_put_returns_whether_anything_changed(snapshot: Snapshot) -> None:
    """Only what is newer than the snapshot is taken, and only that is reported as a change."""
    assert snapshot.put(live(2, 2))
    assert not snapshot.put(live(2, 2))
    assert not snapshot.put(live(2, 1))
    assert not snapshot.put(live(1, 3))
    assert snapshot.put(live(2, 3))


def test_an_earlier_epoch_is_not_put_in_force(snapshot: Snapshot) -> None:
    """An epoch that arrives after its successor changes nothing; a later one is in force at once."""
    snapshot.put(live(2, 5))
    record = live(2, 5).record
    snapshot.put_epoch(epoch_with(record, {"champion": 0.9, "challenger": 0.1}, 4))
    found = snapshot.find("ranker")
    assert found is not None
    assert found.epoch == live(2, 5).epoch
    later = epoch_with(record, {"champion": 0.9, "challenger": 0.1}, 6)
    snapshot.put_epoch(later)
    found = snapshot.find("ranker")
    assert found is not None
    assert found.epoch == later


def test_an_epoch_of_an_unknown_experiment_is_ignored(snapshot: Snapshot) -> None:
    """An epoch of an experiment that is not in the snapshot does not bring it back."""
    snapshot.put(live(2, 1))
    snapshot.drop(1)
    snapshot.put_epoch(epoch_with(running(), EVEN, 2))
    assert (snapshot.find("ranker"), list(snapshot)) == (None, [])


def test_drafts_are_found_but_not_chosen_from(snapshot: Snapshot) -> None:
    """A draft has no epoch to choose by, and is still found by its name."""
    draft = LiveExperiment(replace(ExperimentRecord.draft(declare(), START), number=1), None)
    snapshot.put(draft)
    assert snapshot.find("ranker") is None
    assert snapshot.find_by_name("ranker") == draft
    assert snapshot.find_by_name("other") is None


def test_a_change_is_compiled_again(snapshot: Snapshot) -> None:
    """A compiled experiment is kept while nothing changes, and compiled again once something does."""
    snapshot.put(live(2, 1))
    before = snapshot.find("ranker")
    assert snapshot.find("ranker") is before
    paused = replace(live(3, 1).record, state=State.PAUSED)
    snapshot.put(LiveExperiment(paused, live(3, 1).epoch))
    after = snapshot.find("ranker")
    assert after is not None
    assert after.state is State.PAUSED


def test_apply_takes_in_a_load(snapshot: Snapshot, clock: ManualClock) -> None:
    """A load brings what is new, drops what was deleted, and sets the watermark."""
    other = replace(running(declare("other"), number=2))
    gone = LiveExperiment(other, epoch_with(other, EVEN))
    assert snapshot.apply(Changes((live(2, 1), gone), frozenset(), 7), clock.monotonic()) == [1, 2]
    assert snapshot.watermark == 7
    assert snapshot.apply(Changes((live(2, 1),), frozenset({2, 99}), 9), clock.monotonic()) == []
    assert snapshot.watermark == 9
    assert [one.record.name for one in snapshot] == ["ranker"]
    assert snapshot.find("other") is None


def test_a_load_from_before_a_deletion_brings_nothing_back(snapshot: Snapshot, clock: ManualClock) -> None:
    """A load that was asked for before an experiment was deleted here may arrive after that."""
    snapshot.put(live(2, 1))
    asked_at = clock.monotonic()
    clock.advance(0.1)
    snapshot.drop(1)
    assert snapshot.apply(Changes((live(2, 1),), frozenset(), 7), asked_at) == []
    assert snapshot.find("ranker") is None
    clock.advance(0.1)
    assert snapshot.apply(Changes((), frozenset({1}), 9), clock.monotonic()) == []
    assert snapshot.find("ranker") is None


def test_before_the_first_load_the_age_is_infinite(snapshot: Snapshot) -> None:
    """A snapshot that was never confirmed is infinitely old; on the wire, a year old."""
    assert snapshot.age_seconds == inf
    assert snapshot.age == timedelta(days=365)


def test_the_age_counts_from_when_the_store_was_asked(snapshot: Snapshot, clock: ManualClock) -> None:
    """A snapshot's age counts from when the store was asked, not from when it answered."""
    asked_at = clock.monotonic()
    clock.advance(2.0)
    snapshot.apply(Changes((), frozenset(), 0), asked_at)
    clock.advance(1.5)
    assert snapshot.age_seconds == 3.5
    assert snapshot.age == timedelta(seconds=3.5)


def test_an_earlier_load_makes_it_no_older(snapshot: Snapshot, clock: ManualClock) -> None:
    """Of two loads that end in the wrong order, the one that was asked for later counts."""
    earlier = clock.monotonic()
    clock.advance(2.0)
    snapshot.apply(Changes((), frozenset(), 0), clock.monotonic())
    snapshot.apply(Changes((), frozenset(), 0), earlier)
    assert snapshot.age_seconds == 0.0
