"""Retention over the service: a year stays small, the report does not change, and no clock undoes a seal."""

import asyncio
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from structlog.typing import EventDict

from bandit.decision_id import NO_UNIT, Basis, DecisionTerms, new_id
from bandit.facts import DecisionKey, Epoch
from server.services.background.retention import Purger
from server.services.errors import DecisionExpiredError, DecisionSealedError
from server.services.reports.build import make_report
from server.services.reports.values import Report as ExperimentReport
from server.services.reports.values import ReportRequest
from server.services.reward.inquiries import Inquiries
from server.services.reward.known_epochs import KnownEpochs
from server.services.reward.ledger import Ledger, PostedReward
from server.services.runtime.async_store import AsyncStore
from server.services.snapshot.snapshot import Snapshot
from server.services.verification import verify
from server.store.records import (
    ExperimentRecord,
    Flush,
    OutcomeEntry,
    OutcomeResult,
    RewardEntry,
    State,
)
from server.store.sql_store import SqlStore
from server.store.tables import epochs
from tests.bandit.builders import START, declare, make_epoch
from tests.services.support import SIGNER, Bench, ManualClock, QueueFactory, rewarded
from tests.store.builders import INCARNATION, facts_of, silently
from tests.support.process import eventually

DAY: Final = timedelta(days=1)
AGE: Final = timedelta(days=7)
RETENTION: Final = timedelta(days=7)
N_EXPERIMENTS: Final = 2
N_DAYS: Final = 365
REWARDS_A_DAY: Final = 50
BYTES_AN_OUTCOME: Final = 100
"""How much an outcome in the log takes of an SQLite file, free pages included; `operating.md` states it."""

BYTES_AN_EPOCH: Final = 300
"""What an epoch takes for ever: its row, its facts and its sealed sums, here of two arms and one metric."""


def running(store: SqlStore, name: str) -> ExperimentRecord:
    """Return an experiment that runs, in its first epoch."""
    declared = replace(declare(name), max_decision_age=AGE)
    draft = store.create_experiment(declared, START)
    after = replace(draft, state=State.RUNNING, started_at=START)
    return store.change_experiment(draft, after, make_epoch(1, START, experiment=draft.number, revision=2))


def begin_epoch(store: SqlStore, record: ExperimentRecord, number: int, started_at: datetime) -> Epoch:
    """Begin an epoch."""
    epoch = make_epoch(number, started_at, experiment=record.number, revision=record.revision)
    stored = store.add_epoch(epoch)
    assert stored is not None
    return stored


def rewards_of(
    record: ExperimentRecord, epoch: int, began_at: datetime, generator: random.Random
) -> list[RewardEntry]:
    """Return a day's rewards of an epoch."""
    entries = []
    for _ in range(REWARDS_A_DAY):
        at_ms = int((began_at + DAY * generator.random()).timestamp() * 1000)
        basis = Basis.FALLBACK if generator.random() < 0.05 else Basis.POLICY
        entries.append(
            RewardEntry(
                decision=new_id(at_ms, generator.getrandbits(74)),
                experiment=record.number,
                epoch=epoch,
                segment=0,
                arm=generator.randrange(2),
                basis=basis,
                outcomes=(OutcomeEntry(0, generator.randrange(2), is_late=False),),
                revision=0,
                received_ms=at_ms,
                is_apart=generator.random() < 0.01,
            )
        )
    return entries


async def live_for_a_year(
    store: SqlStore, clock: ManualClock, purger: Purger, records: list[ExperimentRecord]
) -> None:
    """Write an epoch a day with decisions and rewards, week by week, and purge once a week."""
    generator = random.Random(4_711)
    for first in range(0, N_DAYS, 7):
        days = range(first, min(first + 7, N_DAYS))
        write_epochs(store, [(record, day + 1, START + day * DAY) for record in records for day in days])
        counts = {
            DecisionKey(record.number, day + 1, 0, arm, Basis.POLICY): 50
            for record in records
            for day in days
            for arm in (0, 1)
        }
        store.add_decisions(Flush(slot=0, incarnation=INCARNATION, sequence=first + 1, counts=counts))
        entries = [
            entry
            for day in days
            for record in records
            for entry in rewards_of(record, day + 1, START + day * DAY, generator)
        ]
        store.record_rewards(entries, 0)
        clock.advance(len(days) * DAY.total_seconds())
        await purger.run_once()


def write_epochs(store: SqlStore, starts: list[tuple[ExperimentRecord, int, datetime]]) -> None:
    """Write epochs as the store does, many in a transaction."""
    with store._dialect.writing() as connection:
        for record, number, started_at in starts:
            epoch = make_epoch(number, started_at, experiment=record.number, revision=record.revision)
            epochs.find_or_add(connection, epoch)


def reports(store: SqlStore, records: list[ExperimentRecord], made_at: datetime) -> list[str]:
    """Return the reports of an instant, to the last digit."""
    return [repr(report_on(store, record, made_at)) for record in records]


def report_on(store: SqlStore, record: ExperimentRecord, made_at: datetime) -> ExperimentReport:
    """Return the report on one experiment."""
    known = store.read_report(record.name)
    assert known is not None
    return make_report(known, ReportRequest(max_epochs=50), DAY, made_at)


def size_of(file: Path) -> int:
    """Return the bytes of the file, free pages included."""
    with closing(sqlite3.connect(file)) as connection:
        (pages,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        return int(pages * size)


def logged(file: Path) -> tuple[int, int]:
    """Return the rows of the log, and the milliseconds of its oldest decision."""
    with closing(sqlite3.connect(file)) as connection:
        count, oldest = connection.execute("SELECT count(*), min(decision) FROM rewards").fetchone()
        return int(count), int.from_bytes(oldest[:6])


async def test_a_year_stays_small_and_reports_do_not_change(
    store: SqlStore,
    async_store: AsyncStore,
    clock: ManualClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a year of rewards and purges, log and file are as small as stated, and reports are as before.

    The log holds what is younger than decision age, retention and an epoch; `verify` is clean.
    """
    monkeypatch.setattr("server.services.background.retention._REST", 0.0)
    records = [running(store, f"e-{number}") for number in range(N_EXPERIMENTS)]
    purger = Purger(async_store, clock, retention=RETENTION)
    await live_for_a_year(store, clock, purger, records)
    made_at = clock.now()
    before = reports(store, records, made_at)
    clock.advance(DAY.total_seconds())  # one more day may be purged
    n_rows = purger.n_rows
    await purger.run_once()
    assert purger.n_rows > n_rows
    assert reports(store, records, made_at) == before
    n_logged, oldest_ms = logged(tmp_path / "bandit.db")
    kept_days = (AGE + RETENTION) / DAY + 1
    assert n_logged <= kept_days * N_EXPERIMENTS * REWARDS_A_DAY
    assert clock.time_ms() - oldest_ms <= kept_days * DAY / timedelta(milliseconds=1)
    report = verify(store, silently)
    assert report.is_clean
    n_recorded = N_DAYS * N_EXPERIMENTS * REWARDS_A_DAY
    assert report.n_outcomes + store.count_apart() == n_recorded
    assert purger.n_rows == n_recorded - n_logged
    assert purger.n_epochs == sum(store.summarise_seals().epochs.values())
    most_rows = (kept_days + 7) * N_EXPERIMENTS * REWARDS_A_DAY
    n_bytes = size_of(tmp_path / "bandit.db")
    n_epochs = N_DAYS * N_EXPERIMENTS
    assert n_bytes <= BYTES_AN_OUTCOME * most_rows + BYTES_AN_EPOCH * n_epochs + 100_000


class Desk:
    """A ledger and a purger over a real store with one running experiment in its second epoch."""

    def __init__(
        self, store: SqlStore, async_store: AsyncStore, clock: ManualClock, queues: QueueFactory
    ) -> None:
        self.store = store
        self.clock = clock
        self.snapshot = Snapshot(clock)
        queue = queues()
        queues.start(queue)
        self.ledger = Ledger(
            self.snapshot,
            SIGNER,
            queue,
            clock,
            inquiries=Inquiries(self.refresh, clock, memory_seconds=0.0, pause_seconds=0.0),
            epochs=KnownEpochs(
                self.snapshot,
                async_store.find_epochs,
                clock,
                memory_seconds=0.0,
            ),
        )
        self.record = running(store, "ranker")
        self.purger = Purger(async_store, clock, retention=RETENTION)

    async def refresh(self) -> None:
        """Take in what the store has."""
        changes = self.store.load_changes(self.snapshot.watermark)
        self.snapshot.apply(changes, self.clock.monotonic())

    def decision(self, epoch: int = 1) -> str:
        """Return a decision that was signed now."""
        terms = DecisionTerms(self.record.number, epoch, 7, 0, 1, Basis.POLICY, 0.5)
        return SIGNER.sign(new_id(self.clock.time_ms(), next(_bits)), terms.pack(), NO_UNIT)

    async def post(self, decision: str, clicks: float = 1, revision: int = 0) -> object:
        """Return the result of one reward, or the kind of error."""
        (answer,) = await rewarded(self.ledger, [PostedReward(decision, {"clicks": clicks}, revision)])
        return type(answer) if isinstance(answer, Exception) else dict(answer)["clicks"]

    def jump(self, by: timedelta) -> None:
        """Put the wall clock to another time; the monotonic one goes on."""
        self.clock._now += by


_bits = iter(range(10**6))


@pytest.fixture
async def desk(store: SqlStore, async_store: AsyncStore, clock: ManualClock, new_queue: QueueFactory) -> Desk:
    """A ledger at work."""
    return Desk(store, async_store, clock, new_queue)


async def test_a_clock_that_jumps_back_admits_no_purged_decision(desk: Desk) -> None:
    """If the clock goes back to the decision's day, the database knows the seal and counts nothing twice."""
    decided_at = desk.clock.now()
    known, open_ended = desk.decision(), desk.decision()
    assert await desk.post(known) is OutcomeResult.RECORDED
    begin_epoch(desk.store, desk.record, 2, desk.clock.now() + DAY)
    desk.clock.advance((AGE + 2 * DAY).total_seconds())
    assert await desk.post(known) is OutcomeResult.DUPLICATE
    assert await desk.post(open_ended) is DecisionExpiredError
    desk.clock.advance(RETENTION.total_seconds())
    before = facts_of(desk.store)
    await desk.purger.run_once()
    assert desk.purger.n_rows == 1
    for jump in (timedelta(), timedelta(hours=1), -DAY, decided_at - desk.clock.now()):
        desk.jump(jump)
        for revision in (0, 3):
            assert await desk.post(known, revision=revision) is DecisionSealedError
            assert await desk.post(open_ended, revision=revision) is DecisionSealedError
        await desk.purger.run_once()
    assert facts_of(desk.store) == before


async def test_a_clock_that_jumps_ahead_seals_nothing_early(desk: Desk) -> None:
    """An hour ahead seals nothing that could still be rewarded: the retention is longer than that."""
    begin_epoch(desk.store, desk.record, 2, desk.clock.now() + DAY)
    decision = desk.decision()
    desk.clock.advance((AGE - timedelta(seconds=1)).total_seconds())
    desk.jump(timedelta(hours=1))
    await desk.purger.run_once()
    desk.jump(-timedelta(hours=1))
    assert await desk.post(decision) is OutcomeResult.RECORDED


async def test_decisions_of_a_clock_that_was_put_back_are_rewarded(desk: Desk) -> None:
    """A replica's decisions in the epoch in force can be rewarded, whatever its clock reads."""
    begin_epoch(desk.store, desk.record, 2, desk.clock.now() + DAY)
    desk.clock.advance((AGE + RETENTION + 2 * DAY).total_seconds())
    await desk.purger.run_once()
    desk.jump(-AGE - RETENTION)
    decision = desk.decision(epoch=2)
    assert await desk.post(decision) is OutcomeResult.RECORDED


def test_choose_ignores_the_wall_clock() -> None:
    """With the clock an hour ahead or a day back, the snapshot's age and the decisions stay the same."""
    bench = Bench.of({"a": 1.0, "b": 0.0})
    for jump in (timedelta(hours=1), -DAY):
        bench.clock._now += jump
        choice = bench.chooser.choose(bench.experiment, "")
        assert choice.offer.terms.basis is Basis.POLICY
        assert bench.snapshot.age_seconds == 0.0


async def test_a_run_logs_one_line(desk: Desk, logs: list[EventDict]) -> None:
    """A run logs one line with what it did; a run that finds nothing to do logs nothing."""
    await desk.post(desk.decision())
    begin_epoch(desk.store, desk.record, 2, desk.clock.now() + DAY)
    await desk.purger.run_once()
    assert [event for event in logs if event["event"] == "log.purged"] == []
    desk.clock.advance((AGE + RETENTION + 2 * DAY).total_seconds())
    await desk.purger.run_once()
    await desk.purger.run_once()
    (event,) = [event for event in logs if event["event"] == "log.purged"]
    assert (event["rows"], event["epochs"]) == (1, 1)


@pytest.mark.parametrize(("event_retention", "kept"), [(30 * DAY, []), (None, [1, 2])])
async def test_events_are_purged_after_their_retention(
    desk: Desk, async_store: AsyncStore, event_retention: timedelta | None, kept: list[int]
) -> None:
    """A day's run purges the events that are older than their retention; without one all stay."""
    purger = Purger(async_store, desk.clock, retention=RETENTION, event_retention=event_retention)
    desk.clock.advance((30 * DAY).total_seconds())
    await purger.run_once()
    assert [event.sequence for event in desk.store.list_events("ranker", 0, 10) or ()] == [1, 2]
    desk.clock.advance((2 * DAY).total_seconds())
    await purger.run_once()
    assert [event.sequence for event in desk.store.list_events("ranker", 0, 10) or ()] == kept


async def test_a_purge_leaves_the_writer_to_rewards(desk: Desk) -> None:
    """Rewards are committed between the transactions of a purge, and not after the last of them."""
    entries = [
        RewardEntry(
            new_id(0, n), desk.record.number, 1, 0, 0, Basis.POLICY, (OutcomeEntry(0, 1, False),), 0, 0
        )
        for n in range(6_000)
    ]
    desk.store.record_rewards(entries, 0)
    begin_epoch(desk.store, desk.record, 2, desk.clock.now() + DAY)
    desk.clock.advance((AGE + RETENTION + 2 * DAY).total_seconds())
    await desk.refresh()
    run = asyncio.create_task(desk.purger.run_once())
    await asyncio.to_thread(eventually, lambda: desk.purger.n_rows > 0)
    assert await desk.post(desk.decision(epoch=2)) is OutcomeResult.RECORDED
    assert desk.purger.n_rows < len(entries)
    assert not run.done()
    await run
    assert desk.purger.n_rows == len(entries)
