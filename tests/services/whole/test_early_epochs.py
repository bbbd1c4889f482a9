"""A young experiment's epochs grow by decisions, and what falls into the first is counted by part."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from bandit.facts import Facts
from bandit.facts.parts import N_PARTS, part_of
from bandit.metric import Metric
from bandit.policies import WeightedSplit
from server.services.reward.ledger import PostedReward
from server.store.records import OutcomeResult
from tests.bandit.builders import HOUR, declare
from tests.services.support import ManualClock
from tests.services.whole.service import WholeService
from tests.support.ledger import decision_of

NAME = "ranker"
Start = Callable[[], WholeService]


@pytest.fixture
def running() -> Iterator[list[WholeService]]:
    """The servers that are stopped at the end."""
    services: list[WholeService] = []
    yield services
    for service in services:
        service.stop()


@pytest.fixture
def start(url: str, clock: ManualClock, running: list[WholeService]) -> Start:
    """Start servers on one database."""

    def start_one() -> WholeService:
        running.append(WholeService(url, clock))
        return running[-1]

    return start_one


def create(service: WholeService) -> None:
    """Create a running static split, whose windows are long."""
    split = WeightedSplit(weights={"champion": 1.0, "challenger": 1.0})
    declared = declare(NAME, metrics=[Metric(name="clicks", window=HOUR)], policy=split)
    service.run(service.experiments.create(replace(declared, max_decision_age=2 * HOUR)))
    service.run(service.experiments.start(NAME, None))


def choose(service: WholeService, n: int) -> Sequence[str]:
    """Return the ids of n decisions, which are then in the facts; the allocator looks at what is due."""
    experiment = service.find(NAME)
    assert experiment is not None
    decisions = [service.choose(experiment, "").decision_id for _ in range(n)]
    service.flush()
    service.allocate()
    return decisions


def epoch(service: WholeService) -> int:
    """Return the number of the epoch in force here, after a poll."""
    service.refresh()
    found = service.find(NAME)
    assert found is not None
    return found.epoch.number


def facts(service: WholeService) -> Facts:
    """Return the facts."""
    found = service.store.read_facts(1)
    assert found is not None
    return found.facts


def test_a_burst_is_counted_by_part(start: Start) -> None:
    """Decisions of one instant, and their outcomes, are in the parts that their ids say."""
    service = start()
    create(service)
    decisions = choose(service, 300)
    for text in decisions[:40]:
        assert service.reward(PostedReward(text, {"clicks": 1.0}, 0)) == {"clicks": OutcomeResult.RECORDED}
    decided = Counter(part_of(decision_of(text)) for text in decisions)
    rewarded = Counter(part_of(decision_of(text)) for text in decisions[:40])
    parts = facts(service).parts
    assert [sum(part.decisions.values()) for part in parts] == [decided[part] for part in range(N_PARTS)]
    totals = [sum(tally.total for tally in part.outcomes.values()) for part in parts]
    assert totals == [rewarded[part] for part in range(N_PARTS)]


def test_epochs_end_by_decisions_without_outcomes(start: Start, clock: ManualClock) -> None:
    """Long before a window has passed, 32 decisions end each of the first epochs, even of a static split."""
    service = start()
    create(service)
    for number in range(1, 6):
        choose(service, 31)
        clock.advance(1)
        service.allocate()
        assert epoch(service) == number
        choose(service, 1)
        assert epoch(service) == number + 1
    choose(service, 39)
    assert epoch(service) == 6
    choose(service, 1)
    assert epoch(service) == 7


def test_a_restart_begins_no_epoch_again(start: Start, running: list[WholeService]) -> None:
    """Decisions that ended an epoch end none after a restart; those that did not still count then."""
    service = start()
    create(service)
    choose(service, 100)
    assert epoch(service) == 2
    choose(service, 31)
    running.pop().stop()
    service = start()
    choose(service, 0)
    assert epoch(service) == 2
    choose(service, 1)
    assert epoch(service) == 3


def test_a_pause_begins_no_epochs(start: Start) -> None:
    """Answers of a paused experiment are no draws, so no epoch grows by them."""
    service = start()
    create(service)
    choose(service, 20)
    service.run(service.experiments.pause(NAME, None))
    choose(service, 200)
    service.run(service.experiments.start(NAME, None))
    resumed = epoch(service)
    choose(service, 0)
    assert epoch(service) == resumed


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_replicas_begin_one_epoch_for_the_same_growth(start: Start, clock: ManualClock) -> None:
    """Two servers whose decisions suffice together begin one epoch, ten seconds later at most."""
    services = [start(), start()]
    create(services[0])
    for n_decisions in (0, 20):
        assert [epoch(service) for service in services] == [1, 1]
        for service in services:
            choose(service, n_decisions)
    assert [epoch(service) for service in services] == [1, 1]
    clock.advance(10)
    for service in (*services, *services):
        service.allocate()
    assert [epoch(service) for service in services] == [2, 2]
    for service in services:
        choose(service, 0)
    assert [epoch(service) for service in services] == [2, 2]
    for service in services:
        choose(service, 40)
    assert [epoch(service) for service in services] == [3, 3]
