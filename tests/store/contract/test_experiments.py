"""The contract of a store: experiments, their revisions, and what is never used again."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import select

from bandit.experiment import Arm
from bandit.launch.moves import promoted
from bandit.metric import Metric
from server.store.contract import Store
from server.store.declaration_json import from_document
from server.store.errors import NameTakenError, QuotaReachedError, StaleRevisionError
from server.store.records import ExperimentRecord, State
from server.store.sql_store import SqlStore
from server.store.tables.schema import configurations
from tests.bandit.builders import CLICKS, START, declare
from tests.bandit.launch.launches import declare_launch, in_bandit, occasion
from tests.store.builders import create, epoch_of, run


def test_a_created_experiment_is_found_as_it_was_declared(store: Store) -> None:
    """What is found is what was created: a draft of revision 1, with numbers for its names."""
    experiment = declare(arms=["a", "b", "c"])
    created = store.create_experiment(experiment, START)
    assert store.find_experiment("ranker") == created
    assert created == ExperimentRecord(
        number=created.number,
        experiment=experiment,
        state=State.DRAFT,
        revision=1,
        arm_numbers={"a": 0, "b": 1, "c": 2},
        metric_numbers={"clicks": 0, "spend": 1},
        created_at=START,
        updated_at=START,
    )
    assert created.number >= 1


def test_instants_keep_their_microseconds(store: Store) -> None:
    """Instants come back as aware UTC, exact to the microsecond."""
    now = datetime(2026, 3, 1, 12, 0, 0, 123_457, UTC)
    store.create_experiment(declare(), now)
    found = store.find_experiment("ranker")
    assert found is not None
    assert (found.created_at, found.created_at.tzinfo) == (now, UTC)


def test_an_unknown_name_is_not_found(store: Store) -> None:
    """Names that were never created, in another case or with more characters around them, are not found."""
    create(store)
    for name in ("", "Ranker", "ranker ", "rank", "ranker%", "team/ranker"):
        assert store.find_experiment(name) is None


def test_a_name_in_use_is_refused(store: Store) -> None:
    """A second experiment of a name is refused, and the first stays as it was."""
    first = create(store)
    with pytest.raises(NameTakenError, match="'ranker' exists or existed"):
        store.create_experiment(declare(arms=["x"]), START)
    assert store.find_experiment("ranker") == first


def test_a_deleted_name_is_never_used_again(store: Store) -> None:
    """A deleted experiment is not found, and its name stays taken."""
    record = create(store)
    assert store.has_name("ranker")
    store.delete_experiment(record, START)
    assert store.find_experiment("ranker") is None
    assert store.has_name("ranker")
    assert not store.has_name("rank")
    with pytest.raises(NameTakenError):
        create(store)


def test_a_number_is_never_used_again(store: Store) -> None:
    """Numbers grow, also after the newest experiment was deleted and after a name was refused."""
    numbers = [create(store, name).number for name in ("a", "b")]
    newest = create(store, "c")
    store.delete_experiment(newest, START)
    with pytest.raises(NameTakenError):
        create(store, "a")
    assert create(store, "d").number > newest.number > numbers[1] > numbers[0]


def test_pages_follow_the_order_of_names(store: Store) -> None:
    """Pages that start at a name hold every experiment once, in the order of names, without deleted ones."""
    names = ["b", "team/b", "a-1", "a", "zeta", "team/a", "gone", "0"]
    for name in names:
        create(store, name)
    gone = store.find_experiment("gone")
    assert gone is not None
    store.delete_experiment(gone, START)
    pages: list[list[str]] = []
    after = ""
    while page := store.list_experiments(after, 3):
        pages.append([record.name for record in page])
        after = page[-1].name
    assert pages == [["0", "a", "a-1"], ["b", "team/a", "team/b"], ["zeta"]]


def test_a_list_can_be_of_one_state(store: Store) -> None:
    """With a state, pages hold only experiments of that state, and are still full."""
    for name in ("a", "c", "e"):
        create(store, name)
    for name in ("b", "d"):
        run(store, name)
    assert [record.name for record in store.list_experiments("", 2, State.DRAFT)] == ["a", "c"]
    assert [record.name for record in store.list_experiments("c", 2, State.DRAFT)] == ["e"]
    assert [record.name for record in store.list_experiments("", 9, State.RUNNING)] == ["b", "d"]
    assert store.list_experiments("", 9, State.CONCLUDED) == []


def test_a_change_makes_the_next_revision(store: Store) -> None:
    """A change is stored as the next revision, and everything else as it was passed in."""
    before = create(store)
    later = START + timedelta(hours=1)
    after = replace(
        before.declaring(declare(arms=["champion", "new"], metrics=[CLICKS, Metric(name="new")])),
        state=State.CONCLUDED,
        winner="new",
        updated_at=later,
        started_at=START,
        concluded_at=later,
    )
    changed = store.change_experiment(before, after)
    assert changed == replace(after, revision=2)
    assert store.find_experiment("ranker") == changed


def test_numbers_of_dropped_names_are_kept(store: Store) -> None:
    """An arm or metric that is dropped keeps its number, and what is new gets the next one."""
    record = create(store)
    for arms in (["champion", "b"], ["champion", "c"], ["challenger", "champion"]):
        record = store.change_experiment(record, record.declaring(declare(arms=arms)))
    found = store.find_experiment("ranker")
    assert found is not None
    assert found.arm_numbers == {"champion": 0, "challenger": 1, "b": 2, "c": 3}
    assert (found.arm_id(2), found.metric_name(1)) == ("b", "spend")


def test_a_stale_change_is_refused(store: Store) -> None:
    """Of two changes of one revision the first is stored; the second is refused and changes nothing."""
    before = create(store)
    first = store.change_experiment(before, replace(before, state=State.RUNNING))
    with pytest.raises(StaleRevisionError, match="'ranker' was changed by another caller"):
        store.change_experiment(before, replace(before, state=State.PAUSED))
    assert store.find_experiment("ranker") == first


def test_a_stale_delete_is_refused(store: Store) -> None:
    """An experiment that changed since it was read is not deleted."""
    before = create(store)
    changed = store.change_experiment(before, replace(before, state=State.PAUSED))
    with pytest.raises(StaleRevisionError):
        store.delete_experiment(before, START)
    assert store.find_experiment("ranker") == changed


def test_a_deleted_experiment_can_neither_be_changed_nor_deleted(store: Store) -> None:
    """After the deletion its last revision is stale, whichever number it is given."""
    record = create(store)
    store.delete_experiment(record, START)
    for revision in (1, 2):
        with pytest.raises(StaleRevisionError):
            store.change_experiment(replace(record, revision=revision), record)
        with pytest.raises(StaleRevisionError):
            store.delete_experiment(replace(record, revision=revision), START)


def test_every_revision_is_kept(store: SqlStore) -> None:
    """Each revision leaves one row of history, with its state and its declaration."""
    first = create(store)
    second = store.change_experiment(
        first, replace(first.declaring(declare(arms=[Arm(id="other")])), state=State.RUNNING)
    )
    third = store.change_experiment(second, replace(second, state=State.PAUSED))
    with store._dialect.reading() as connection:
        rows = connection.execute(select(configurations).order_by(configurations.c.revision)).all()
    assert [(row.experiment, row.revision, row.state) for row in rows] == [
        (first.number, 1, "draft"),
        (first.number, 2, "running"),
        (first.number, 3, "paused"),
    ]
    declared = [from_document(row.document).experiment for row in rows]
    assert declared == [first.experiment, second.experiment, third.experiment]


def test_a_change_brings_its_epoch(store: Store) -> None:
    """The epoch passed in with a change is stored in the same commit, as made from the new revision."""
    draft = create(store)
    running = store.change_experiment(draft, replace(draft, state=State.RUNNING), epoch_of(draft, 1))
    found = store.read_facts(draft.number)
    assert found is not None
    assert found.record == running
    assert found.epochs == (replace(epoch_of(draft, 1), revision=2),)


def test_a_change_whose_epoch_is_taken_is_refused_whole(store: Store) -> None:
    """If the epoch's number is taken, neither the epoch nor the change is stored."""
    record = run(store)
    with pytest.raises(StaleRevisionError):
        store.change_experiment(record, record.declaring(declare(arms=["x"])), epoch_of(record, 1, nonce=99))
    found = store.read_facts(record.number)
    assert found is not None
    assert found.record == record
    assert [epoch.nonce for epoch in found.epochs] == [7]


def test_a_refused_change_leaves_no_history(store: SqlStore) -> None:
    """A change that was refused has no row among the revisions."""
    record = run(store)
    with pytest.raises(StaleRevisionError):
        store.change_experiment(record, record, epoch_of(record, 1))
    with store._dialect.reading() as connection:
        revisions = list(connection.execute(select(configurations.c.revision)).scalars())
    assert sorted(revisions) == [1, 2]


def test_a_namespace_holds_no_more_than_its_quota(store: Store) -> None:
    """One too many is refused and leaves nothing; other namespaces and deleted experiments do not count."""
    for name in ("a", "b", "team/a", "team-b/a", "tea/a"):
        store.create_experiment(declare(name), START, quota=2)
    with pytest.raises(QuotaReachedError, match="'' holds 2"):
        store.create_experiment(declare("c"), START, quota=2)
    assert not store.has_name("c")
    gone = store.create_experiment(declare("team/b"), START, quota=2)
    with pytest.raises(QuotaReachedError, match="'team' holds 2"):
        store.create_experiment(declare("team/c"), START, quota=2)
    store.delete_experiment(gone, START)
    assert store.create_experiment(declare("team/c"), START, quota=2).name == "team/c"


def test_a_quota_is_exact_for_threads_that_race(store: Store) -> None:
    """Of eight threads that create an experiment in one namespace with a quota of three, three succeed."""
    start = Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        try:
            store.create_experiment(declare(f"team/x{number}"), START, quota=3)
        except QuotaReachedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(race, range(8))).count(True) == 3


def test_a_launch_is_found_as_it_was_stored(store: Store) -> None:
    """A plan, and where every arm is, come back by name, in a page and among the changes."""
    draft = store.create_experiment(declare_launch(), START)
    running = replace(draft, state=State.RUNNING, started_at=START)
    launching = in_bandit("b")
    began = store.change_experiment(draft, replace(running, launch=launching.launch), epoch_of(draft, 1))
    after = promoted(launching, "b", occasion(3))
    moved = replace(began, experiment=after.experiment, launch=after.launch)
    stored = store.change_experiment(began, moved, epoch_of(began, 2))
    assert stored == replace(moved, revision=3)
    assert store.find_experiment("ranker") == stored
    assert store.list_experiments("", 10, None) == [stored]
    (live,) = store.load_changes(None).live
    assert live.record == stored
    assert live.record.arms_in_service == {"a", "b", "c", "d"}


def test_champions_of_every_revision_are_kept(store: Store) -> None:
    """A promotion does not rewrite under which champion earlier epochs ran."""
    draft = store.create_experiment(declare_launch(), START)
    launching = in_bandit("b")
    running = replace(draft, state=State.RUNNING, started_at=START, launch=launching.launch)
    began = store.change_experiment(draft, running, epoch_of(draft, 1))
    after = promoted(launching, "b", occasion(3))
    moved = replace(began, experiment=after.experiment, launch=after.launch)
    store.change_experiment(began, moved, epoch_of(began, 2))
    report = store.read_report("ranker")
    assert report is not None
    assert [declared.champion for declared in report.declarations] == ["a", "b"]
