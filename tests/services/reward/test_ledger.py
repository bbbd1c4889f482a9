"""The ledger: which decision a reward is credited to, and what the store is asked before a refusal."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from bandit.decision_id import NO_UNIT, Basis, DecisionTerms, new_id
from bandit.facts import OutcomeKey, Tally
from bandit.metric import Metric, MetricKind
from server.services.errors import (
    DecisionExpiredError,
    DecisionIdInvalidError,
    ExperimentNotFoundError,
    InvalidInputError,
    OutcomeConflictError,
    ServiceError,
)
from server.services.reward.inquiries import Inquiries
from server.services.reward.known_epochs import KnownEpochs
from server.services.reward.ledger import Ledger, PostedReward
from server.services.runtime.async_store import AsyncStore
from server.services.snapshot.snapshot import Snapshot
from server.store.records import EpochKey, EpochTerms, ExperimentRecord, OutcomeResult, State
from server.store.sql_store import SqlStore
from tests.bandit.builders import HOUR, START, declare
from tests.services.support import SIGNER, ManualClock, QueueFactory, rewarded
from tests.store.builders import epoch_of, facts_of, statements_of

MEMORY = 1.0
"""Seconds for which an answer of the store is remembered."""

METRICS = [
    Metric(name="clicks", window=HOUR),
    Metric(name="spend", kind=MetricKind.REAL, maximum=100.0, window=2 * HOUR),
]


class Office:
    """A ledger over a real store with one running experiment, which the snapshot may not know yet."""

    def __init__(
        self, store: SqlStore, async_store: AsyncStore, clock: ManualClock, queues: QueueFactory
    ) -> None:
        self.store = store
        self.clock = clock
        self.snapshot = Snapshot(clock)
        self.n_refreshes = 0
        self.looked_up: list[int] = []
        queue = queues()
        queues.start(queue)

        async def find_epochs(keys: Collection[EpochKey]) -> Mapping[EpochKey, EpochTerms]:
            self.looked_up.append(len(keys))
            return await async_store.find_epochs(keys)

        self.ledger = Ledger(
            self.snapshot,
            SIGNER,
            queue,
            clock,
            inquiries=Inquiries(self.refresh, clock, memory_seconds=MEMORY, pause_seconds=0.0),
            epochs=KnownEpochs(self.snapshot, find_epochs, clock, memory_seconds=MEMORY),
        )
        draft = store.create_experiment(declare(metrics=METRICS), START)
        after = replace(draft, state=State.RUNNING, started_at=START)
        self.record: ExperimentRecord = store.change_experiment(draft, after, epoch_of(draft, 1))

    async def refresh(self) -> None:
        """Take in what the store has."""
        self.n_refreshes += 1
        changes = self.store.load_changes(self.snapshot.watermark)
        self.snapshot.apply(changes, self.clock.monotonic())

    def decision(self, *, epoch: int = 1, nonce: int = 7, experiment: int | None = None) -> str:
        """Return a decision that was signed now."""
        number = self.record.number if experiment is None else experiment
        terms = DecisionTerms(number, epoch, nonce, 0, 1, Basis.POLICY, 0.5)
        decision_id = new_id(self.clock.time_ms(), next(_bits))
        return SIGNER.sign(decision_id, terms.pack(), NO_UNIT)

    async def post(
        self, decision: str, outcomes: Mapping[str, float], revision: int = 0
    ) -> Mapping[str, OutcomeResult] | ServiceError:
        """Return the result of one reward."""
        (result,) = await rewarded(self.ledger, [PostedReward(decision, outcomes, revision)])
        return result


_bits = iter(range(10**6))


@pytest.fixture
async def office(
    store: SqlStore, async_store: AsyncStore, clock: ManualClock, new_queue: QueueFactory
) -> Office:
    """A ledger at work."""
    return Office(store, async_store, clock, new_queue)


async def test_a_reward_is_credited_to_its_decision(office: Office) -> None:
    """Every metric of a reward is summed, in quanta, under its decision's epoch, arm and basis."""
    results = await office.post(office.decision(), {"spend": 50.0, "clicks": 1})
    assert results == {"clicks": OutcomeResult.RECORDED, "spend": OutcomeResult.RECORDED}
    number = office.record.number
    assert facts_of(office.store) == {
        OutcomeKey(number, 1, 0, 1, Basis.POLICY, 0): Tally(1, 1, 1),
        OutcomeKey(number, 1, 0, 1, Basis.POLICY, 1): Tally(1, 2**19, 2**38),
    }


async def test_late_is_each_metrics_own(office: Office) -> None:
    """An outcome is late if its own metric's window has closed, counted from the decision."""
    decision, other = office.decision(), office.decision()
    office.clock.advance(3600.0)
    assert await office.post(other, {"clicks": 1}) == {"clicks": OutcomeResult.RECORDED}
    office.clock.advance(0.001)
    results = await office.post(decision, {"clicks": 1, "spend": 1})
    assert results == {"clicks": OutcomeResult.LATE, "spend": OutcomeResult.RECORDED}


async def test_a_decision_expires(office: Office) -> None:
    """Past max_decision_age a first outcome is refused, and a known one still gets its answer."""
    known, unknown = office.decision(), office.decision()
    await office.post(known, {"clicks": 1})
    office.clock.advance(timedelta(days=30).total_seconds() + 0.001)
    assert isinstance(await office.post(unknown, {"clicks": 1}), DecisionExpiredError)
    assert await office.post(known, {"clicks": 1}) == {"clicks": OutcomeResult.DUPLICATE}
    assert isinstance(await office.post(known, {"clicks": 1, "spend": 1}), DecisionExpiredError)


@pytest.mark.parametrize(("epoch", "nonce"), [(1, 8), (2, 7), (99, 7)])
async def test_a_decision_of_another_past_is_kept_apart(office: Office, epoch: int, nonce: int) -> None:
    """If the stored epoch of its number is not its own, a reward is recorded and never folded."""
    results = await office.post(office.decision(epoch=epoch, nonce=nonce), {"clicks": 1})
    assert results == {"clicks": OutcomeResult.RECORDED}
    assert facts_of(office.store) == {}
    assert office.store.count_apart() == 1


async def test_an_earlier_epoch_is_looked_up(office: Office) -> None:
    """A decision of an epoch that is over is credited to it, from the store's own list of epochs."""
    office.store.add_epoch(epoch_of(office.record, 2, nonce=55))
    await office.refresh()
    for epoch, nonce in ((1, 7), (2, 55)):
        await office.post(office.decision(epoch=epoch, nonce=nonce), {"clicks": 1})
    assert sorted(key.epoch for key in facts_of(office.store)) == [1, 2]


async def test_the_store_is_asked_about_what_is_unknown(office: Office) -> None:
    """A server that does not know an experiment asks once, and then goes on without asking."""
    for _ in range(3):
        assert await office.post(office.decision(), {"clicks": 1}) == {"clicks": OutcomeResult.RECORDED}
    assert office.n_refreshes == 1


async def test_the_store_is_asked_about_a_new_metric(office: Office) -> None:
    """A metric that was declared a moment ago is accepted, although this server did not know it."""
    await office.refresh()
    record = office.record
    changed = record.declaring(declare(metrics=[*METRICS, Metric(name="likes")]))
    office.store.change_experiment(record, changed, epoch_of(record, 2))
    assert await office.post(office.decision(), {"likes": 1}) == {"likes": OutcomeResult.RECORDED}


async def test_a_dropped_metric_is_refused_by_name(office: Office) -> None:
    """An unknown metric and a bad value are refused field by field, and nothing of the call is stored."""
    result = await office.post(office.decision(), {"clicks": 0.5, "likes": 1, "spend": 1})
    assert isinstance(result, InvalidInputError)
    assert sorted(result.violations) == [
        ("outcomes['clicks']", "0.5: it must be 0 or 1"),
        ("outcomes['likes']", "experiment 'ranker' has no such metric"),
    ]
    assert facts_of(office.store) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308, -1.0])
async def test_a_value_outside_the_range_is_refused(office: Office, value: float) -> None:
    """A value that is not a number in the metric's range is refused with the value."""
    result = await office.post(office.decision(), {"spend": value})
    assert isinstance(result, InvalidInputError)
    assert str(result).startswith(f"outcomes['spend']: {value!r}: it must be ")


async def test_a_reward_without_outcomes_is_refused(office: Office) -> None:
    """A reward names at least one metric."""
    result = await office.post(office.decision(), {})
    assert isinstance(result, InvalidInputError)
    assert "0 entries; there must be 1 to 64" in str(result)


async def test_a_deleted_experiment_takes_no_rewards(office: Office) -> None:
    """Rewards for a deleted or unknown experiment are refused; a paused one's are taken."""
    record = office.store.change_experiment(office.record, replace(office.record, state=State.PAUSED))
    assert await office.post(office.decision(), {"clicks": 1}) == {"clicks": OutcomeResult.RECORDED}
    office.store.delete_experiment(record, START)
    await office.refresh()
    for number in (record.number, 99):
        result = await office.post(office.decision(experiment=number), {"clicks": 1})
        assert isinstance(result, ExperimentNotFoundError)


async def test_calls_of_a_batch_are_judged_separately(office: Office) -> None:
    """In one batch every reward gets its own answer: recorded, forged, invalid, in conflict or known."""
    decision = office.decision()
    results = await rewarded(
        office.ledger,
        [
            PostedReward(decision, {"clicks": 1}, 0),
            PostedReward("A" * 80, {"clicks": 1}, 0),
            PostedReward(decision, {"clicks": 0}, 0),
            PostedReward(office.decision(), {"clicks": 7}, 0),
            PostedReward(decision, {"clicks": 1}, 0),
        ],
    )
    assert results[0] == {"clicks": OutcomeResult.RECORDED}
    assert results[4] == {"clicks": OutcomeResult.DUPLICATE}
    assert [type(result) for result in results[1:4]] == [
        DecisionIdInvalidError,
        OutcomeConflictError,
        InvalidInputError,
    ]


def bad_reports(office: Office, n_reports: int) -> list[PostedReward]:
    """Rewards that are refused: for a metric, for a value, of an old decision, and of an unknown key."""
    late = office.decision()
    office.clock.advance(timedelta(days=30).total_seconds() + 0.001)
    kinds: list[Callable[[int], PostedReward]] = [
        lambda n: PostedReward(office.decision(), {f"unknown-{n}": 1}, 0),
        lambda _: PostedReward(office.decision(), {"clicks": 0.5}, 0),
        lambda _: PostedReward(late, {"likes": 1}, 0),
        lambda _: PostedReward("AckA" + office.decision()[4:], {"clicks": 1}, 0),
    ]
    return [kinds[number % len(kinds)](number) for number in range(n_reports)]


async def test_many_bad_rewards_ask_once(office: Office) -> None:
    """However many rewards are refused at the same time, in one call or in many, they share one query."""
    await office.refresh()
    reports = bad_reports(office, 400)
    n_before = office.n_refreshes
    calls = [rewarded(office.ledger, [report]) for report in reports]
    answers = [answer for call in await asyncio.gather(*calls) for answer in call]
    answers += await rewarded(office.ledger, reports)
    assert {type(answer) for answer in answers} == {InvalidInputError, DecisionIdInvalidError}
    assert office.n_refreshes - n_before <= 2
    assert office.looked_up == []


async def test_what_the_store_answered_is_remembered(office: Office) -> None:
    """Once the store was asked, a reward that is refused costs no statement for a moment."""
    reports = bad_reports(office, 4)
    first = await rewarded(office.ledger, reports)
    with statements_of(office.store) as sent:
        for _ in range(50):
            again = await rewarded(office.ledger, reports)
    assert list(map(type, again)) == list(map(type, first))
    assert sent == []
    office.clock.advance(MEMORY)
    n_before = office.n_refreshes
    await rewarded(office.ledger, reports)
    assert office.n_refreshes == n_before + 1


async def test_a_refusal_is_remembered_for_no_longer_than_a_moment(office: Office) -> None:
    """A metric that was refused a moment ago is accepted soon after it was declared."""
    decision = office.decision()
    assert isinstance(await office.post(decision, {"likes": 1}), InvalidInputError)
    changed = office.record.declaring(declare(metrics=[*METRICS, Metric(name="likes")]))
    office.store.change_experiment(office.record, changed, epoch_of(office.record, 2))
    office.clock.advance(MEMORY)
    assert await office.post(decision, {"likes": 1}) == {"likes": OutcomeResult.RECORDED}


async def test_an_epoch_is_looked_up_alone_and_once(office: Office) -> None:
    """Rewards of earlier epochs ask the store for these, together, and never for the whole history."""
    for number in range(2, 40):
        office.store.add_epoch(epoch_of(office.record, number, nonce=number))
    await office.refresh()
    decisions = [office.decision(epoch=number, nonce=number) for number in range(2, 12)]
    reports = [PostedReward(decision, {"clicks": 1}, 0) for decision in decisions]
    with statements_of(office.store) as sent:
        await rewarded(office.ledger, reports)
        await asyncio.gather(*(rewarded(office.ledger, [report]) for report in reports))
    assert office.looked_up == [10]
    assert len([statement for statement in sent if "FROM epochs" in statement]) == 1
    assert sorted({key.epoch for key in facts_of(office.store)}) == list(range(2, 12))


async def test_an_absent_epoch_is_remembered_for_its_own_decisions(office: Office) -> None:
    """That an epoch is missing holds for the decisions asked about, and for no other's of that number."""
    strange = office.decision(epoch=2, nonce=8)
    await office.post(strange, {"clicks": 1})
    office.store.add_epoch(epoch_of(office.record, 2, nonce=9))
    await office.post(strange, {"clicks": 1})
    assert facts_of(office.store) == {}
    await office.post(office.decision(epoch=2, nonce=9), {"clicks": 1})
    assert [key.epoch for key in facts_of(office.store)] == [2]


async def test_a_reward_that_needs_no_inquiry_takes_no_task(office: Office) -> None:
    """What is known here is queued before `post` returns, and answered by a future without a task."""
    await office.refresh()
    decision = office.decision()
    tasks = asyncio.all_tasks()
    posted = office.ledger.post([PostedReward(decision, {"clicks": 1}, 0), PostedReward("forged", {}, 0)])
    assert asyncio.all_tasks() == tasks
    assert isinstance(posted, asyncio.Future)
    result, refusal = await posted
    assert result == {"clicks": OutcomeResult.RECORDED}
    assert isinstance(refusal, DecisionIdInvalidError)


async def test_rewards_that_are_all_refused_are_answered_at_once(office: Office) -> None:
    """Where nothing is to be committed, `post` returns the answers themselves."""
    (refusal,) = cast("list[object]", office.ledger.post([PostedReward("forged", {"clicks": 1}, 0)]))
    assert isinstance(refusal, DecisionIdInvalidError)


async def test_a_reward_that_needs_an_inquiry_is_answered_by_post(office: Office) -> None:
    """A reward of an experiment that is not known here yet waits for the store, and is then recorded."""
    (result,) = await cast(
        "asyncio.Future[list[object]]",
        office.ledger.post([PostedReward(office.decision(), {"clicks": 1}, 0)]),
    )
    assert result == {"clicks": OutcomeResult.RECORDED}
