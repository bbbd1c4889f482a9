"""A clock that is wrong for a while destroys nothing and delays little.

Whether it is wrong while a server runs or from its start; and an operator can take back what it left.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.decision_id import Basis
from bandit.metric import Metric
from server.services.choose.chooser import Question
from server.services.errors import (
    ClockInDoubtError,
    DecisionExpiredError,
    DecisionSealedError,
)
from server.services.experiments.epochs import state_of
from server.services.reward.ledger import PostedReward
from server.store.records import OutcomeResult
from tests.bandit.builders import HOUR, MINUTE, SECOND, START, declare
from tests.services.support import LAG, ManualClock
from tests.services.whole.service import RETENTION, WholeService
from tests.store.builders import facts_of

NAME = "ranker"
DAY = timedelta(days=1)
WINDOW = 2 * SECOND
AGE = timedelta(days=7)
TRUST = 2 * HOUR
JUMPS = [90 * DAY, 365 * DAY, 3650 * DAY]

Start = Callable[[], WholeService]


@pytest.fixture
def start(tmp_path: Path, clock: ManualClock) -> Iterator[Start]:
    """Start a server on one file; the one before it must have stopped."""
    running: list[WholeService] = []

    def start_one() -> WholeService:
        running.append(WholeService(f"sqlite:///{tmp_path / 'wrong.db'}", clock, trust_after=TRUST))
        return running[-1]

    yield start_one
    facts_of(running[-1].store)
    with suppress(RuntimeError):
        running[-1].stop()


def create(service: WholeService) -> None:
    """Create a running experiment with a short window."""
    metrics = [Metric(name="clicks", window=WINDOW, default_value=0.0), Metric(name="spend")]
    declared = replace(declare(NAME, metrics=metrics), max_decision_age=AGE)
    service.run(service.experiments.create(declared))
    service.run(service.experiments.start(NAME, None))


def choose(service: WholeService) -> str:
    """Return a decision."""
    found = service.find(NAME)
    assert found is not None
    return service.choose(found, "").decision_id


def spend(service: WholeService, decision: str) -> object:
    """Return the result of a reward without a window, or the kind of error."""
    answer = service.reward(PostedReward(decision, {"spend": 1.0}, 0))
    return type(answer) if isinstance(answer, Exception) else answer["spend"]  # type: ignore[index]


def wait(service: WholeService, clock: ManualClock, time: timedelta, step: timedelta = MINUTE) -> None:
    """Let time pass in a server at work."""
    for _ in range(round(time / step)):
        clock.advance(step.total_seconds())
        service.look()
        service.refresh()
        service.allocate()


def is_doubted(service: WholeService) -> bool:
    """True if service time is in doubt."""
    return service.clock.is_doubted


def epoch(service: WholeService) -> int:
    """Return the number of the epoch in force."""
    live = service.snapshot.find_by_name(NAME)
    assert live is not None
    assert live.epoch is not None
    return live.epoch.number


def n_closed(service: WholeService) -> int:
    """Return how many outcomes of clicks steer."""
    live = service.snapshot.find_by_name(NAME)
    assert live is not None
    found = service.store.read_report(NAME)
    assert found is not None
    state = state_of(
        live.record, found.found.epochs, found.found.facts, timedelta(seconds=LAG), service.clock.now()
    )
    return sum(
        seen.n_outcomes for seen in state.observations(live.record.experiment.metric("clicks")).values()
    )


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("state", ["running", "paused", "concluded"])
def test_a_start_with_a_wrong_clock_seals_nothing(
    start: Start, clock: ManualClock, jump: timedelta, state: str
) -> None:
    """Open decisions are credited afterwards, repeats are duplicates, and new decisions are rewarded."""
    service = start()
    create(service)
    known, open_ended = choose(service), choose(service)
    assert spend(service, known) is OutcomeResult.RECORDED
    if state == "paused":
        service.run(service.experiments.pause(NAME, None))
    elif state == "concluded":
        service.run(service.experiments.conclude(NAME, "champion", None))
    service.stop()
    clock.jump(jump)
    service = start()
    wait(service, clock, 5 * SECOND, SECOND)
    assert service.purge() == 0
    assert spend(service, open_ended) is ClockInDoubtError
    assert spend(service, known) is OutcomeResult.DUPLICATE
    service.stop()
    clock.jump(-jump)
    service = start()
    assert service.purge() == 0
    assert spend(service, known) is OutcomeResult.DUPLICATE
    assert spend(service, open_ended) is OutcomeResult.RECORDED
    assert spend(service, choose(service)) is OutcomeResult.RECORDED


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_under_a_running_server_seals_nothing(
    start: Start, clock: ManualClock, jump: timedelta
) -> None:
    """During a jump nothing is sealed, refused or dated: time runs on as before."""
    service = start()
    create(service)
    known, open_ended = choose(service), choose(service)
    assert spend(service, known) is OutcomeResult.RECORDED
    clock.jump(jump)
    wait(service, clock, 5 * SECOND, SECOND)
    assert service.purge() == 0
    assert spend(service, open_ended) is OutcomeResult.RECORDED
    assert spend(service, known) is OutcomeResult.DUPLICATE
    clock.jump(-jump)
    wait(service, clock, 5 * SECOND, SECOND)
    assert not is_doubted(service)
    assert spend(service, choose(service)) is OutcomeResult.RECORDED


@pytest.mark.parametrize("is_restarted", [False, True])
def test_learning_goes_on_after_a_jump(start: Start, clock: ManualClock, *, is_restarted: bool) -> None:
    """A second after the clock is right again, epochs begin and end, whatever the jump was."""
    service = start()
    create(service)
    if is_restarted:
        service.stop()
    clock.jump(365 * DAY)
    if is_restarted:
        service = start()
    for _ in range(3):
        choose(service)
        service.flush()
        wait(service, clock, SECOND, SECOND)
    if is_restarted:
        service.stop()
    clock.jump(-365 * DAY)
    if is_restarted:
        service = start()
    wait(service, clock, SECOND, SECOND)
    before, counted = epoch(service), n_closed(service)
    for _ in range(5):
        service.reward(PostedReward(choose(service), {"clicks": 1.0}, 0))
        service.flush()
        wait(service, clock, WINDOW, SECOND)
    assert epoch(service) > before
    wait(service, clock, WINDOW + 2 * timedelta(seconds=LAG), SECOND)
    assert n_closed(service) >= counted + 3


def test_an_experiment_of_the_future_is_capped_after_a_restart(start: Start, clock: ManualClock) -> None:
    """An experiment made and started while the clock was a year ahead learns once the clock is right."""
    clock.jump(365 * DAY)
    service = start()
    create(service)
    service.stop()
    clock.jump(-365 * DAY)
    service = start()
    wait(service, clock, SECOND, SECOND)
    found = service.store.read_facts(1)
    assert found is not None
    assert [each.is_cap for each in found.epochs] == [False, True]
    assert found.epochs[-1].started_at - service.clock.now() <= timedelta()


def test_no_epoch_begins_in_doubt(start: Start, clock: ManualClock) -> None:
    """An epoch that would have begun in doubt is considered when the doubt is over."""
    service = start()
    create(service)
    choose(service)
    service.flush()
    before = epoch(service)
    clock.jump(-3 * HOUR)
    wait(service, clock, 5 * MINUTE)
    assert is_doubted(service)
    assert epoch(service) == before
    clock.jump(3 * HOUR)
    wait(service, clock, 5 * SECOND, SECOND)
    assert epoch(service) > before


def test_what_is_trusted_was_marked_a_day_of_running_ago(start: Start, clock: ManualClock) -> None:
    """Nothing is trusted before that; restarts and downtime neither count nor start the day again."""
    service = start()
    create(service)
    wait(service, clock, HOUR)
    assert service.clock.trusted_until() is None
    service.stop()
    clock.advance((30 * DAY).total_seconds())
    service = start()
    before = service.clock.now()
    wait(service, clock, HOUR + 30 * MINUTE)
    trusted = service.clock.trusted_until()
    assert trusted is not None
    assert trusted < START + HOUR
    wait(service, clock, TRUST)
    trusted = service.clock.trusted_until()
    assert trusted is not None
    assert before <= trusted <= service.clock.now() - TRUST


def test_a_month_of_downtime_goes_on_by_itself(start: Start, clock: ManualClock) -> None:
    """For ten minutes nothing is refused for good; then it is, and in the end the log is purged."""
    service = start()
    create(service)
    decision = choose(service)
    assert spend(service, decision) is OutcomeResult.RECORDED
    open_ended = choose(service)
    service.run(service.experiments.pause(NAME, None))
    wait(service, clock, 15 * MINUTE)
    service.stop()
    clock.advance((AGE + RETENTION + 2 * DAY).total_seconds())
    service = start()
    assert spend(service, open_ended) is ClockInDoubtError
    wait(service, clock, 11 * MINUTE)
    assert spend(service, open_ended) is DecisionExpiredError
    assert service.purge() == 0
    wait(service, clock, TRUST + 30 * MINUTE)
    assert service.purge() > 0
    assert spend(service, open_ended) is DecisionSealedError


def test_a_clock_that_was_wrong_for_hours_waits_for_an_operator(start: Start, clock: ManualClock) -> None:
    """Once its error is marked, neither time nor a restart undoes it; accepting the clock repairs all."""
    service = start()
    create(service)
    decision = choose(service)
    service.stop()
    clock.jump(90 * DAY)
    service = start()
    wait(service, clock, HOUR)
    service.stop()
    clock.jump(-90 * DAY)
    service = start()
    wait(service, clock, HOUR)
    assert is_doubted(service)
    assert spend(service, decision) is ClockInDoubtError
    service.store.accept_clock(clock.now(), reason="the battery is new", caller="ops")
    wait(service, clock, 2 * SECOND, SECOND)
    assert not is_doubted(service)
    assert service.clock.now() == clock.now()
    assert spend(service, decision) is OutcomeResult.RECORDED
    before = epoch(service)
    choose(service)
    service.flush()
    wait(service, clock, 5 * SECOND, SECOND)
    assert epoch(service) > before


def test_late_is_not_said_before_the_clock_has_settled(start: Start, clock: ManualClock) -> None:
    """An outcome that comes late never steers, so being late is final, too, and waits for the clock."""
    service = start()
    create(service)
    decision = choose(service)
    service.stop()
    clock.jump(DAY)
    service = start()
    report = PostedReward(decision, {"clicks": 1.0}, 0)
    assert isinstance(service.reward(report), ClockInDoubtError)
    service.stop()
    clock.jump(-DAY)
    service = start()
    assert service.reward(report) == {"clicks": OutcomeResult.RECORDED}


def test_no_clock_makes_a_chore_fail(start: Start, clock: ManualClock) -> None:
    """With a clock at 1970, never set, epochs, purge and keys go on as far as they can."""
    clock.jump(timedelta(days=-20_513))
    service = start()
    create(service)
    assert spend(service, choose(service)) is OutcomeResult.RECORDED
    wait(service, clock, 20 * MINUTE)
    assert service.purge() == 0
    clock.jump(timedelta(days=20_513))
    wait(service, clock, 20 * MINUTE)
    assert not is_doubted(service)
    assert spend(service, choose(service)) is OutcomeResult.RECORDED


def test_a_decision_of_the_future_is_new_and_not_pinned(start: Start, clock: ManualClock) -> None:
    """Its age is 0: a reward is taken, but no unit stays with it, since the pin would never end."""
    clock.jump(DAY)
    service = start()
    create(service)
    decision = choose(service)
    service.stop()
    clock.jump(-DAY)
    service = start()
    found = service.find(NAME)
    assert found is not None
    again = service.chooser.choose_within(found, Question(previous_decision_id=decision))
    assert again.decision_id != decision
    assert again.offer.key.basis is Basis.POLICY
    assert service.reward(PostedReward(decision, {"clicks": 1.0}, 0)) == {"clicks": OutcomeResult.RECORDED}
