"""The contract of a store: facts are the fold of the log, and can be rebuilt from it."""

from sqlalchemy import delete, insert, update

from bandit.decision_id import Basis
from bandit.facts import DecisionKey, Tally
from server.services.verification import rebuild, verify
from server.store.columns.slots import slot_of
from server.store.contract import Store
from server.store.sql_store import SqlStore
from server.store.tables.schema import outcome_facts
from tests.bandit.builders import START
from tests.store.builders import INCARNATION, facts_of, flush, key_of, reward, run, silently


def fill(store: Store) -> None:
    """Record in-time, late, revised and kept-apart outcomes of several arms, metrics and experiments."""
    late, timely = reward(quanta=2, is_late=True), reward(values={0: 1, 1: 7}, arm=1)
    store.record_rewards(
        [late, timely, reward(quanta=5, experiment=2, basis=Basis.FALLBACK), reward(is_apart=True)], 0
    )
    store.record_rewards(
        [reward(late.decision, 3, revision=1), reward(timely.decision, 9, revision=2, arm=1)], 1
    )


def test_an_empty_store_is_clean(store: Store) -> None:
    """In an empty store, log and facts agree."""
    report = verify(store, silently)
    assert (report.is_clean, report.n_outcomes, report.n_experiments) == (True, 0, 0)
    assert (list(report.differences), list(report.notes)) == ([], [])


def test_verify_counts_what_it_compared(store: Store) -> None:
    """A clean report gives the numbers of experiments and outcomes compared, and of those kept apart."""
    fill(store)
    report = verify(store, silently)
    assert (report.is_clean, report.n_outcomes, report.n_experiments) == (True, 4, 2)
    assert list(report.notes) == ["1 outcomes are kept apart: their epochs are not those stored"]


def test_verify_reports_a_sum_that_differs(store: SqlStore) -> None:
    """One sum that is off by one is found, with its key, its value and the log's value."""
    fill(store)
    with store._dialect.writing() as connection:
        connection.execute(
            update(outcome_facts)
            .where(
                outcome_facts.c.arm == 1, outcome_facts.c.metric == 0, outcome_facts.c.slot == slot_of(0, 0)
            )
            .values(total=outcome_facts.c.total + 1)
        )
    report = verify(store, silently)
    assert not report.is_clean
    assert list(report.differences) == [
        "experiment 1, epoch 1, arm 1, policy, metric 0: total is 10 but 9 in the log"
    ]


def test_verify_reports_facts_without_a_log(store: SqlStore) -> None:
    """Facts without an outcome, and outcomes that no fact counts, are both found."""
    fill(store)
    with store._dialect.writing() as connection:
        connection.execute(delete(outcome_facts).where(outcome_facts.c.experiment == 2))
        ghost = key_of(reward(experiment=77))._asdict() | {"slot": 3} | Tally(n=1)._asdict()
        connection.execute(insert(outcome_facts).values(**ghost))
    wrong = "n is 0 but 1 in the log, total is 0 but 5 in the log, squares is 0 but 25 in the log"
    assert list(verify(store, silently).differences) == [
        f"experiment 2, epoch 1, arm 0, fallback, metric 0: {wrong}",
        "experiment 77, epoch 1, arm 0, policy, metric 0: n is 1 but 0 in the log",
    ]


def test_rebuild_restores_the_facts(store: SqlStore) -> None:
    """After any damage to the facts, a rebuild restores them, with slots folded into one for each part."""
    fill(store)
    right = facts_of(store)
    with store._dialect.writing() as connection:
        connection.execute(update(outcome_facts).values(total=0, late_n=99))
        connection.execute(delete(outcome_facts).where(outcome_facts.c.metric == 1))
        ghost = key_of(reward(experiment=77))._asdict() | {"slot": 3} | Tally(n=1)._asdict()
        connection.execute(insert(outcome_facts).values(**ghost))
    report = rebuild(store, silently)
    assert (report.n_outcomes, report.n_rows) == (4, len(right))
    assert facts_of(store) == right


def test_rebuild_leaves_decision_counts(store: Store) -> None:
    """Decision counts are not in the log: a rebuild leaves them as they are."""
    number = run(store).number
    counts = {DecisionKey(number, 1, 0, 0, Basis.POLICY): 5}
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, counts))
    store.record_rewards([reward(experiment=number)], 0)
    rebuild(store, silently)
    found = store.read_facts(number)
    assert found is not None
    assert found.facts.decisions == counts


def test_what_comes_after_a_rebuild_is_added(store: Store) -> None:
    """After a rebuild, repeated rewards stay duplicates, and new ones add."""
    entry = reward(quanta=3)
    store.record_rewards([entry], 0)
    rebuild(store, silently)
    store.record_rewards([entry, reward(quanta=4), reward(entry.decision, 5, revision=1)], 1)
    assert facts_of(store) == {key_of(entry): Tally(n=2, total=9, squares=41)}


def test_progress_is_reported(store: Store) -> None:
    """A comparison and a rebuild report how far they are, from nothing to all of it."""
    fill(store)
    for work in (store.compare_ledger, store.rebuild_outcomes):
        steps: list[tuple[int, int]] = []
        work(lambda done, total, steps=steps: steps.append((done, total)))  # type: ignore[misc]
        assert steps == [(0, 2), (1, 2), (2, 2)]


def test_a_sound_database_has_no_faults(store: Store) -> None:
    """The database's own check finds nothing."""
    fill(store)
    assert list(store.check_integrity()) == []
