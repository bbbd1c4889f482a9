"""A bot with most of the decisions, where units are counted: shares follow the people."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from bandit.decision_id import Basis, new_id
from bandit.experiment import AnalysisUnit
from bandit.facts import DecisionKey
from bandit.metric import Metric
from server.services.experiments.steering import REST, SteeringFolds
from server.services.reward.ledger import PostedReward
from server.store.records import ExperimentRecord, Flush, OutcomeResult, State
from server.store.sql_store import SqlStore
from tests.bandit.builders import MINUTE, SECOND, START, declare
from tests.services.support import LAG, ManualClock
from tests.services.whole.service import WholeService
from tests.store.builders import INCARNATION, epoch_of

NAME = "ranker"
CLICKS = Metric(name="clicks", window=MINUTE, default_value=0.0)
BY_UNIT = replace(declare(NAME, metrics=[CLICKS]), analysis_unit=AnalysisUnit.UNIT)


@pytest.fixture
def service(tmp_path: Path, clock: ManualClock) -> Iterator[WholeService]:
    """A service whose one experiment counts units."""
    started = WholeService(f"sqlite:///{tmp_path / 'bot.db'}", clock)
    started.run(started.experiments.create(BY_UNIT))
    started.run(started.experiments.start(NAME, None))
    yield started
    started.stop()


def visit(service: WholeService, unit: str) -> tuple[str, str]:
    """Return the id and the arm of a decision for a unit."""
    found = service.find(NAME)
    assert found is not None
    choice = service.choose(found, unit)
    return choice.decision_id, choice.offer.arm.id


def click(service: WholeService, decision: str) -> None:
    """Post a click."""
    answer = service.reward(PostedReward(decision, {"clicks": 1.0}, 0))
    assert answer == {"clicks": OutcomeResult.RECORDED}


def wait(service: WholeService, clock: ManualClock, time: timedelta) -> None:
    """Let time pass in a server at work."""
    for _ in range(round(time / (5 * SECOND))):
        clock.advance(5)
        service.refresh()
        service.allocate()


def shares(service: WholeService) -> list[float]:
    """Return the shares in force."""
    live = service.snapshot.find_by_name(NAME)
    assert live is not None
    assert live.epoch is not None
    return list(live.epoch.shares.values())


def test_a_bot_does_not_win_the_traffic(service: WholeService, clock: ManualClock) -> None:
    """Arms are equal but for a bot that clicks in 600 of 1,000 decisions: shares stay within .1 to .9."""
    n_asked = Counter[str]()
    for number in range(400):
        decision, arm = visit(service, f"user-{number}")
        n_asked[arm] += 1
        if n_asked[arm] % 10 == 0:
            click(service, decision)
    for _ in range(600):
        click(service, visit(service, "bot")[0])
    service.flush()
    wait(service, clock, 4 * MINUTE)
    assert 0.1 < min(shares(service)) < 0.9
    changed = replace(BY_UNIT, description="allocated at once")
    service.run(service.experiments.update(NAME, lambda _: changed, None))
    assert 0.1 < min(shares(service)) < 0.9


def test_people_who_click_move_the_traffic(service: WholeService, clock: ManualClock) -> None:
    """Units that come once and click on one arm only give it nearly all shares, silence included."""
    for number in range(400):
        decision, arm = visit(service, f"user-{number}")
        if arm == "champion" and number % 2:
            click(service, decision)
    service.flush()
    assert min(shares(service)) > 0.4
    wait(service, clock, 4 * MINUTE)
    assert max(shares(service)) > 0.95


class SlowClock(ManualClock):
    """A clock on which a second passes at every look at it."""

    @override
    def monotonic(self) -> float:
        """Return seconds that never go back."""
        self.advance(1)
        return super().monotonic()


def counting_units(store: SqlStore) -> ExperimentRecord:
    """Return a running experiment that counts units."""
    draft = store.create_experiment(BY_UNIT, START)
    running = replace(draft, state=State.RUNNING, started_at=START)
    return store.change_experiment(draft, running, epoch_of(draft, 1))


def note_unit(store: SqlStore, number: int) -> None:
    """Store a unit whose window has closed."""
    mark = number.to_bytes(6)
    decided = new_id(int((START - 2 * MINUTE).timestamp() * 1000), number)
    key = DecisionKey(1, 1, 0, 0, Basis.POLICY)
    units = [(key, {mark: ((decided,), 1)})]
    store.add_decisions(Flush(slot=0, incarnation=INCARNATION, sequence=number, counts={}, units=units))


def test_a_fold_rests_for_twenty_times_as_long_as_it_took(store: SqlStore) -> None:
    """Until then what it found is given again, with when it is due; a new revision ends the rest."""
    clock = SlowClock()
    record = counting_units(store)
    folds = SteeringFolds(clock, timedelta(seconds=LAG))

    def n_counted(of: ExperimentRecord) -> int:
        found = folds.read(store, of).facts
        assert found is not None
        return sum(found[0].facts.decisions.values())

    note_unit(store, 1)
    assert n_counted(record) == 1
    note_unit(store, 2)
    resting = folds.read(store, record)
    assert resting.due_at is not None
    assert resting.due_at - clock.now() == timedelta(seconds=REST - 1)
    assert n_counted(record) == 1
    assert n_counted(replace(record, revision=record.revision + 1)) == 2
    note_unit(store, 3)
    clock.advance(REST)
    assert n_counted(replace(record, revision=record.revision + 1)) == 3
    folds.forget(record.number)
    note_unit(store, 4)
    assert n_counted(record) == 4
