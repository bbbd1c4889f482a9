"""The contract of a store: values are kept as they were posted, and sums are exact to the last step."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text

from bandit.facts import Tally
from bandit.metric import Metric, MetricKind
from server.services.verification import rebuild, verify
from server.store.contract import Store
from server.store.records import (
    Conflicting,
    OutcomeEntry,
    RewardEntry,
    SealedEpochs,
)
from server.store.sql_store import SqlStore
from tests.bandit.builders import START, declare
from tests.store.builders import (
    DUPLICATE,
    RECORDED,
    REVISED,
    key_of,
    one,
    post,
    reward,
    silently,
    some_id,
    sums_of,
)

WIDE = Metric(name="spend", kind=MetricKind.REAL, maximum=10_000_000.0)
CLIPPED = Metric(name="plays", kind=MetricKind.COUNT, maximum=10.0, clip=True)
CONFLICT = Conflicting((0,))

OLD_UPSERT = text(
    """
    INSERT INTO rewards (decision, metric, experiment, epoch, segment, arm, basis, quanta, revision, is_late,
                         is_apart, received_ms)
    VALUES (:decision, :metric, :experiment, :epoch, :segment, :arm, :basis, :quanta, :revision, false,
            false, 0)
    ON CONFLICT (decision, metric) DO UPDATE SET
        replaced_quanta = rewards.quanta, quanta = excluded.quanta, revision = excluded.revision
    """
)
OLD_ADDITION = text(
    """
    INSERT INTO outcome_facts (experiment, epoch, segment, arm, basis, metric, slot,
                               n, total, squares, late_n, late_total, late_squares)
    VALUES (:experiment, :epoch, :segment, :arm, :basis, :metric, 5, :n, :total, :squares, 0, 0, 0)
    ON CONFLICT (experiment, epoch, segment, arm, basis, metric, slot) DO UPDATE SET
        n = outcome_facts.n + excluded.n, total = outcome_facts.total + excluded.total,
        squares = outcome_facts.squares + excluded.squares
    """
)
"""The statements of version 0.2."""


def worth(
    value: float, decision: bytes | None = None, revision: int = 0, *, metric: Metric = WIDE, epoch: int = 1
) -> RewardEntry:
    """Return an entry with one posted value."""
    outcome = OutcomeEntry(0, metric.quantise(value), False, value, metric.kind is MetricKind.REAL)
    return reward(decision, revision=revision, epoch=epoch)._replace(outcomes=(outcome,))


def sums(*values: float) -> Tally:
    """Return the exact sums of real values, in steps."""
    quanta = [WIDE.quantise(value) for value in values]
    return Tally(len(quanta), sum(quanta), sum(each * each for each in quanta))


def as_version_0_2(store: SqlStore, entry: RewardEntry, replaced: RewardEntry | None = None) -> None:
    """Write an entry as a server of version 0.2 does, which knows neither values nor remainders."""
    quanta, before = (_old_quanta(each) if each is not None else 0 for each in (entry, replaced))
    arguments: Mapping[str, object] = {
        **key_of(entry)._asdict(),
        "decision": entry.decision,
        "quanta": quanta,
        "revision": entry.revision,
        "n": int(replaced is None),
        "total": quanta - before,
        "squares": quanta**2 - before**2,
    }
    with store._dialect.writing() as connection:
        connection.execute(OLD_UPSERT, arguments)
        connection.execute(OLD_ADDITION, arguments)


def _old_quanta(entry: RewardEntry) -> int:
    value = entry.outcomes[0].value
    assert value is not None
    return round(value / (WIDE.maximum / 2**20))


@pytest.mark.parametrize("other", [9.99, 14.0, 5.000000000000001])
def test_another_value_is_a_conflict_however_near(store: Store, other: float) -> None:
    """Duplicates are recognized by the posted value, and not by the step that it counts as."""
    entry = worth(5.0)
    assert one(store, entry) == RECORDED
    assert one(store, worth(other, entry.decision)) == CONFLICT
    assert one(store, entry) == DUPLICATE
    assert post(store, worth(other, entry.decision), entry) == [CONFLICT, DUPLICATE]
    assert sums_of(store) == {key_of(entry): sums(5.0)}


@pytest.mark.parametrize("value", [4.76, 0.1, 1 / 3, 9_999_999.99, 1e-5, 0.0, 10_000_000.0])
def test_a_small_value_of_a_wide_range_counts(store: Store, value: float) -> None:
    """A value counts to range / 2^40, where an earlier version kept range / 2^20, and the sums are exact."""
    entry = worth(value)
    assert one(store, entry) == RECORDED
    ((_, total, squares, *_),) = sums_of(store).values()
    assert abs(total * WIDE.resolution - value) <= WIDE.resolution
    assert squares == total * total


def test_a_clipped_value_is_kept_as_it_was_posted(store: Store) -> None:
    """A clipped value counts as the end of the range; neither that end nor others beyond it duplicate it."""
    entry = worth(14.0, metric=CLIPPED)
    assert one(store, entry) == RECORDED
    assert one(store, entry) == DUPLICATE
    for other in (10.0, 15.0):
        assert one(store, worth(other, entry.decision, metric=CLIPPED)) == CONFLICT
    assert sums_of(store) == {key_of(entry): Tally(1, 10 << 20, 100 << 40)}


def test_the_order_of_revisions_leaves_no_trace(store: Store) -> None:
    """Replaced values are subtracted to the last step, whichever writer does it."""
    entries = [worth(value) for value in (4.76, 1 / 3, 9_999_999.99)]
    post(store, *entries)
    before = sums_of(store)
    for slot, revision in enumerate((1, 2, 3, 4)):
        value = 4.76 if revision == 4 else 1e6 / revision
        assert post(store, worth(value, entries[0].decision, revision), slot=slot) == [REVISED]
    assert sums_of(store) == before == {key_of(entries[0]): sums(4.76, 1 / 3, 9_999_999.99)}


def test_a_rebuild_has_the_last_step(store: Store) -> None:
    """Rebuilt facts equal the counted ones to the last step."""
    post(store, *(worth(value) for value in (4.76, 1 / 3, 9_999_999.99)))
    before = sums_of(store)
    rebuild(store, silently)
    assert sums_of(store) == before


def test_sealed_sums_have_the_last_step(store: SqlStore) -> None:
    """When rows leave the log, in several steps, their sums stay exact, also through a rebuild."""
    store.create_experiment(declare(metrics=(WIDE,)), START)
    post(store, *(worth(value, epoch=epoch) for value in (4.76, 1 / 3, 9_999_999.99) for epoch in (1, 2)))
    before = sums_of(store)
    store.seal([SealedEpochs(1, 1, 1, START, bytes(16))], START)
    assert store.settle_seals() or store.settle_seals()
    start: bytes | None = bytes(16)
    while start is not None:
        start = store.purge(start, b"\xff" * 16, 2).next_id
    assert store.summarise_seals().n_outcomes == 3
    assert sums_of(store) == before
    rebuild(store, silently)
    assert sums_of(store) == before


def test_rows_of_an_older_server_fold_exactly(store: SqlStore) -> None:
    """Rows count as what the older server kept, and a repeat at a newer one is a duplicate by that value."""
    old, new = worth(4.76), worth(4_000_000.123)
    as_version_0_2(store, old)
    one(store, new)
    (total,) = sums_of(store).values()
    assert total.total == (_old_quanta(old) << 20) + WIDE.quantise(4_000_000.123)
    assert one(store, old) == DUPLICATE
    assert one(store, worth(4.0, old.decision)) == DUPLICATE
    assert one(store, worth(4_000_000.0, old.decision)) == CONFLICT
    assert one(store, worth(9.99, old.decision, 1)) == REVISED
    assert sums_of(store) == {key_of(old): sums(9.99, 4_000_000.123)}


def test_a_revision_by_an_older_server_keeps_the_ledger_exact(store: SqlStore) -> None:
    """Facts and log stay equal, its value counts, and the next revision makes all of it exact again."""
    first = worth(4_000_000.123)
    one(store, first)
    revised = worth(2_500_000.4, first.decision, 1)
    as_version_0_2(store, revised, first)
    assert verify(store, silently).is_clean
    assert one(store, revised) == DUPLICATE
    assert one(store, worth(4_000_000.123, first.decision, 1)) == CONFLICT
    assert one(store, worth(7.77, first.decision, 2)) == REVISED
    assert sums_of(store) == {key_of(first): sums(7.77)}


def test_a_history_has_the_posted_values(store: SqlStore) -> None:
    """Values beyond the range are included; an older server's values come as what they count as."""
    record = store.create_experiment(declare(metrics=(WIDE,)), START)
    ids = [some_id() for _ in range(3)]
    clipped = OutcomeEntry(0, WIDE.quantise(WIDE.maximum), False, 2e7, is_real=True)
    old = worth(4.76, ids[2])
    post(store, worth(4.76, ids[0]), reward(ids[1])._replace(outcomes=(clipped,)))
    as_version_0_2(store, old)
    with store.read_history(record.name) as history:
        assert history is not None
        values = [row.value for rows in history.read_log(10) for row in rows]
    assert values == [4.76, 2e7, _old_quanta(old) * WIDE.maximum / 2**20]
