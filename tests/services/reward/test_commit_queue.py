"""The reward queue: commits are grouped, bounded, acknowledged after COMMIT, and exact whatever fails."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.typing import EventDict

from server.services.errors import OverloadedError, StorageFullError, StorageUnavailableError
from server.services.reward.commit_queue import MAX_COMMIT_ROWS, RewardQueue
from server.services.reward.turns import MAX_TURNS
from server.store.records import Conflicting, OutcomeResult, Recorded, Refused, RewardEntry, RewardVerdict
from server.store.sql_store import SqlStore
from tests.services.support import QueueFactory
from tests.store.builders import DUPLICATE, RECORDED, engines_of, facts_of, key_of, reward, statements_of

REFUSED_REVISION = 2**63
"""A revision that the database can't hold."""


async def post(queue: RewardQueue, entries: Sequence[RewardEntry]) -> list[RewardVerdict]:
    """Return one verdict for each entry, once they are committed."""
    return await queue.post(entries, list)


def submit(queue: RewardQueue, *entries: RewardEntry) -> "asyncio.Task[list[RewardVerdict]]":
    """Submit entries, and let them reach the queue."""
    return asyncio.create_task(post(queue, entries))


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_waits_is_committed_together(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """Everything that was submitted while no commit could run is one commit, each call with its verdicts."""
    calls = [submit(queue, reward(quanta=number), reward(quanta=number)) for number in range(50)]
    await settle()
    assert queue.n_rows == 100
    new_queue.start(queue)
    assert await asyncio.gather(*calls) == [[RECORDED, RECORDED]] * 50
    assert new_queue.commits == [100]
    assert queue.n_rows == 0


async def test_what_comes_during_a_commit_is_the_next_one(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore
) -> None:
    """What arrives while a commit runs waits for it, and is committed together after it."""
    new_queue.start(queue)
    first = submit(queue, reward())
    with store._dialect.writing():  # the first commit can't begin before this one has ended
        await settle()
        others = [submit(queue, reward()) for _ in range(20)]
        await settle()
        assert not first.done()
    assert await asyncio.gather(first, *others) == [[RECORDED]] * 21
    assert new_queue.commits == [1, 20]


async def test_an_answer_means_that_it_is_stored(
    new_queue: QueueFactory, queue: RewardQueue, tmp_path: Path
) -> None:
    """When a call returns, another process can read its reward in the database."""
    new_queue.start(queue)
    entry = reward(quanta=3)
    assert await post(queue, [entry]) == [RECORDED]
    with closing(sqlite3.connect(tmp_path / "bandit.db")) as other:
        assert other.execute("SELECT decision, quanta FROM rewards").fetchall() == [(entry.decision, 3)]


async def test_commits_are_bounded(new_queue: QueueFactory, queue: RewardQueue, store: SqlStore) -> None:
    """No commit joins calls to more than its limit of rows, and every call is answered."""
    third = [reward() for _ in range(MAX_COMMIT_ROWS // 3)]
    calls = [submit(queue, *third), submit(queue, *third), submit(queue, *third), submit(queue, *third)]
    await settle()
    new_queue.start(queue)
    answers = await asyncio.gather(*calls)
    assert [set(answer) for answer in answers] == [{RECORDED}, {DUPLICATE}, {DUPLICATE}, {DUPLICATE}]
    assert new_queue.commits == [3 * len(third), len(third)]
    assert facts_of(store)[key_of(third[0])].n == len(third)


async def test_a_full_queue_refuses_and_stores_nothing(new_queue: QueueFactory, store: SqlStore) -> None:
    """Beyond its rows the queue refuses with a delay; waiting calls are stored, the refused one is not."""
    queue = new_queue(max_rows=4)
    waiting = submit(queue, reward(values={0: 1, 1: 1}), reward(values={0: 1, 1: 1}))
    await settle()
    late = reward()
    with pytest.raises(OverloadedError, match="4 outcomes are already waiting for a commit") as caught:
        await post(queue, [late])
    assert caught.value.retry_after is not None
    new_queue.start(queue)
    both = Recorded((OutcomeResult.RECORDED,) * 2)
    assert await waiting == [both, both]
    assert facts_of(store)[key_of(late)].n == 2
    assert await post(queue, [late]) == [RECORDED]


async def test_a_queue_is_bounded_in_bytes_too(new_queue: QueueFactory) -> None:
    """Many outcomes in few rows are refused by their bytes."""
    queue = new_queue(max_bytes=2000)
    waiting = [submit(queue, reward()) for _ in range(3)]
    await settle()
    with pytest.raises(OverloadedError):
        await post(queue, [reward()])
    new_queue.start(queue)
    assert await asyncio.gather(*waiting) == [[RECORDED]] * 3


async def test_an_empty_queue_takes_a_call_of_any_size(new_queue: QueueFactory) -> None:
    """A call that is larger than the queue is not refused for ever: it is taken when nothing waits."""
    queue = new_queue(max_rows=4)
    new_queue.start(queue)
    assert await post(queue, [reward() for _ in range(10)]) == [RECORDED] * 10


async def test_one_bad_row_fails_alone(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore, logs: list[EventDict]
) -> None:
    """In a commit of many calls those that the database refuses fail alone, with one log line each."""
    good = [reward(quanta=number) for number in range(21)]
    bad = [reward(revision=REFUSED_REVISION) for _ in range(2)]
    calls = [
        submit(queue, *good[:7]),
        submit(queue, good[7], bad[0], good[8]),
        submit(queue, *good[9:], bad[1]),
    ]
    await settle()
    new_queue.start(queue)
    assert await asyncio.gather(*calls) == [
        [RECORDED] * 7,
        [RECORDED, Refused(), RECORDED],
        [RECORDED] * 12 + [Refused()],
    ]
    assert facts_of(store)[key_of(good[0])].n == 21
    assert len(new_queue.commits) == 1
    assert [line["event"] for line in logs] == ["reward.refused_by_database"] * 2


async def test_verdicts_come_back_to_their_calls(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """Calls that are committed together get their own verdicts, in their order."""
    entry = reward(quanta=3)
    calls = [
        submit(queue, entry),
        submit(queue, reward(entry.decision, 4), reward(quanta=9)),
        submit(queue),
        submit(queue, entry, reward(entry.decision, 5, revision=1)),
    ]
    await settle()
    new_queue.start(queue)
    assert await asyncio.gather(*calls) == [
        [RECORDED],
        [Conflicting((0,)), RECORDED],
        [],
        [DUPLICATE, Recorded((OutcomeResult.REVISED,))],
    ]


async def test_results_are_counted_by_arm_and_metric(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """The queue counts the results of outcomes, and reports which experiments grew."""
    new_queue.start(queue)
    entry = reward(values={0: 1, 1: 1}, arm=2, experiment=5)
    await post(queue, [entry])
    await post(queue, [entry, reward(entry.decision, 9, arm=2, experiment=5)])
    assert queue.results == {
        (5, 2, 0, "recorded"): 1,
        (5, 2, 1, "recorded"): 1,
        (5, 2, 0, "duplicate"): 1,
        (5, 2, 1, "duplicate"): 1,
    }
    assert new_queue.grown == {5}


async def test_an_unreachable_store_acknowledges_nothing(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore, tmp_path: Path
) -> None:
    """While the database is locked, calls fail with a delay; the same call later is exact."""
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("PRAGMA busy_timeout=1")
    new_queue.start(queue)
    entry = reward()
    with closing(sqlite3.connect(tmp_path / "bandit.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailableError, match="nothing was acknowledged"):
            await post(queue, [entry])
        other.execute("ROLLBACK")
    assert queue.n_rows == 0
    assert await post(queue, [entry]) == [RECORDED]
    assert await post(queue, [entry]) == [DUPLICATE]
    assert new_queue.n_broken == 0


async def test_a_full_disk_fails_calls_as_overloaded(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore
) -> None:
    """With a full disk calls fail as overloaded, and are recorded once there is room."""
    with store._dialect.reading() as reader:
        n_pages = reader.exec_driver_sql("PRAGMA page_count").scalar_one()
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute(f"PRAGMA max_page_count={n_pages}")
    new_queue.start(queue)
    entries = [reward() for _ in range(1000)]
    with pytest.raises(StorageFullError, match="the store has no room left"):
        await post(queue, entries)
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("PRAGMA max_page_count=1000000")
    assert await post(queue, entries) == [RECORDED] * 1000


async def test_closing_commits_what_waits(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore
) -> None:
    """A queue that is closed ends once everything submitted is committed and answered."""
    calls = [submit(queue, reward()) for _ in range(5)]
    await settle()
    queue.close()
    await new_queue.start(queue)
    assert [call.result() for call in calls] == [[RECORDED]] * 5
    assert sum(tally.n for tally in facts_of(store).values()) == 5


async def test_a_large_commit_is_answered_in_turns(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """The event loop does other things while the callers of one commit are answered, and all are."""
    calls = [submit(queue, reward()) for _ in range(1_000)]
    await settle()
    new_queue.start(queue)
    seen = []
    while not (calls[-1].done() and queue.n_rows == 0):
        await asyncio.sleep(0)
        seen.append(sum(call.done() for call in calls))
    most_at_once = max(after - before for before, after in pairwise([0, *seen]))
    assert new_queue.commits == [1_000]
    assert most_at_once <= 100
    assert seen[-1] == 1_000


async def test_closing_waits_until_all_are_answered(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """A queue that is closed while it answers a commit, a turn at a time, ends after the last answer."""
    calls = [submit(queue, reward()) for _ in range(1_000)]
    await settle()
    running = new_queue.start(queue)
    await calls[0]
    assert not calls[-1].done()
    queue.close()
    await running
    await settle()
    assert all(call.done() for call in calls)


async def test_a_cancelled_call_may_still_be_committed(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore
) -> None:
    """A caller that gives up leaves its reward in the queue, and its retry is a duplicate."""
    entry = reward()
    call, other = submit(queue, entry), submit(queue, reward())
    await settle()
    call.cancel()
    await settle()
    new_queue.start(queue)
    assert await other == [RECORDED]
    assert await post(queue, [entry]) == [DUPLICATE]
    assert facts_of(store)[key_of(entry)].n == 2


async def test_an_outage_logs_one_line(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore, tmp_path: Path, logs: list[EventDict]
) -> None:
    """An outage logs one line, however many commits fail in it; the next outage logs again."""
    with closing(engines_of(store)[0].raw_connection()) as connection:
        connection.cursor().execute("PRAGMA busy_timeout=1")
    new_queue.start(queue)
    for _ in range(2):
        with closing(sqlite3.connect(tmp_path / "bandit.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(5):
                with pytest.raises(StorageUnavailableError):
                    await post(queue, [reward()])
        assert await post(queue, [reward()]) == [RECORDED]
    failed = [event for event in logs if event["event"] == "reward.commit_failed"]
    assert [(event["log_level"], event["n_unsaid"]) for event in failed] == [("warning", 0), ("warning", 4)]


@pytest.mark.parametrize("is_one_call", [True, False])
async def test_one_decision_delays_no_other(
    new_queue: QueueFactory, queue: RewardQueue, store: SqlStore, *, is_one_call: bool
) -> None:
    """Hundreds of rewards that contradict each other take a few statements of each commit.

    What another caller posts after them is in the first commit, and they are judged in order.
    """
    decision = reward().decision
    entries = [reward(decision, quanta=number % 2) for number in range(400)]
    disputed = [submit(queue, *entries)] if is_one_call else [submit(queue, entry) for entry in entries]
    honest = submit(queue, reward())
    await settle()
    with statements_of(store) as sent:
        new_queue.start(queue)
        assert await honest == [RECORDED]
        n_statements = len(sent)
    assert n_statements < 5 * MAX_TURNS
    verdicts = [verdict for call in disputed for verdict in await call]
    assert verdicts == [RECORDED] + [Conflicting((0,)), DUPLICATE] * 199 + [Conflicting((0,))]
    assert queue.n_rows == 0


async def test_identical_repeats_are_one_commit(new_queue: QueueFactory, queue: RewardQueue) -> None:
    """A reward that is sent hundreds of times at once is written once, in one commit."""
    entry = reward()
    calls = [submit(queue, entry) for _ in range(400)]
    await settle()
    new_queue.start(queue)
    assert await asyncio.gather(*calls) == [[RECORDED]] + [[DUPLICATE]] * 399
    assert new_queue.commits == [400]
