"""The contract of a store: an experiment's whole history is read in one snapshot, piece by piece."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from bandit.metric import Metric, MetricKind
from server.store.contract import Store
from server.store.records import ExperimentRecord
from tests.bandit.builders import START, declare
from tests.store.builders import INCARNATION, create, flush, reward, run


def drop_metric(store: Store, record: ExperimentRecord, name: str) -> ExperimentRecord:
    """Return the experiment without one of its metrics."""
    kept = tuple(metric for metric in record.experiment.metrics if metric.name != name)
    return store.change_experiment(record, record.declaring(replace(record.experiment, metrics=kept)))


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_missing_experiment_has_no_history(store: Store, *, is_deleted: bool) -> None:
    """Neither an unknown experiment nor a deleted one has a history."""
    if is_deleted:
        store.delete_experiment(create(store), START)
    with store.read_history("ranker") as history:
        assert history is None


def test_a_history_has_the_experiment_with_its_epochs_and_facts(store: Store) -> None:
    """A history's experiment, epochs and facts are those that shares are computed from."""
    record = run(store)
    store.claim_slot(INCARNATION, START)
    store.add_decisions(flush(1, {DecisionKey(record.number, 1, 0, 0, Basis.POLICY): 5}))
    store.record_rewards([reward(experiment=record.number)], 0)
    with store.read_history("ranker") as history:
        assert history is not None
        assert history.found == store.read_facts(record.number)


@pytest.mark.parametrize("n_rows", [1, 3, 100])
def test_the_log_comes_in_the_order_of_decisions(store: Store, n_rows: int) -> None:
    """The log comes in pieces of a given size, with the current values of this experiment only."""
    record = run(store)
    entries = [reward(values={0: 1, 1: n}, experiment=record.number, is_late=n == 2) for n in range(4)]
    for entry in [*reversed(entries), reward(experiment=record.number + 1)]:
        store.record_rewards([entry], 0)
    store.record_rewards([reward(entries[1].decision, 0, revision=5, experiment=record.number)], 0)
    with store.read_history("ranker") as history:
        assert history is not None
        pieces = list(history.read_log(n_rows))
    assert all(1 <= len(piece) <= n_rows for piece in pieces)
    rows = [row for piece in pieces for row in piece]
    assert [(row.decision, row.metric) for row in rows] == [(e.decision, m) for e in entries for m in (0, 1)]
    step = 100 / 2**20  # these entries are like those of version 0.2, which kept no values
    assert [row.value for row in rows] == [1, 0, 0, step, 1, 2 * step, 1, 3 * step]
    assert [row.revision for row in rows] == [0, 0, 5, 0, 0, 0, 0, 0]
    assert [bool(row.is_late) for row in rows] == [False] * 4 + [True] * 2 + [False] * 2


def test_a_reward_recorded_meanwhile_is_not_in_the_snapshot(store: Store) -> None:
    """A reward committed while the history is read is in none of its parts; the writer goes on."""
    record = run(store)
    store.record_rewards([reward(experiment=record.number)], 0)
    with store.read_history("ranker") as history:
        assert history is not None
        store.record_rewards([reward(experiment=record.number)], 0)
        rows = [row for piece in history.read_log(10) for row in piece]
        counted = sum(tally.n for tally in history.found.facts.outcomes.values())
    assert (len(rows), counted) == (1, 1)


def test_a_dropped_metric_is_still_known_as_it_was_last(store: Store) -> None:
    """A dropped metric is known by its last declaration; otherwise its logged values would have no unit."""
    first = Metric(name="spend", kind=MetricKind.REAL, maximum=8.0)
    record = store.create_experiment(declare(metrics=(Metric(name="clicks"), first)), START)
    last = replace(first, window=timedelta(hours=1))
    declared = replace(record.experiment, metrics=(record.experiment.metrics[0], last))
    record = store.change_experiment(record, record.declaring(declared))
    drop_metric(store, record, "spend")
    with store.read_history("ranker") as history:
        assert history is not None
        assert history.metrics == {0: Metric(name="clicks"), 1: last}
