"""The wall clock is set while the service runs: an hour forward, a day back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.decision_id import Basis
from bandit.metric import Metric
from server.services.reward.ledger import PostedReward
from server.services.snapshot.offers import Reason
from server.store.records import OutcomeResult
from tests.bandit.builders import HOUR, declare
from tests.services.support import MAX_STALENESS, ManualClock
from tests.services.whole.service import WholeService
from tests.store.builders import facts_of

NAME = "ranker"
JUMPS = [HOUR, -24 * HOUR]


@pytest.fixture
def service(tmp_path: Path, clock: ManualClock) -> Iterator[WholeService]:
    """A service with a running experiment: clicks count within ten minutes, spend whenever it comes."""
    started = WholeService(f"sqlite:///{tmp_path / 'clock.db'}", clock)
    metrics = [Metric(name="clicks", window=timedelta(minutes=10), default_value=0.0), Metric(name="spend")]
    started.run(started.experiments.create(declare(NAME, metrics=metrics)))
    started.run(started.experiments.start(NAME, None))
    yield started
    facts_of(started.store)
    started.stop()


def choose(service: WholeService) -> tuple[str, Basis, Reason]:
    """Return a decision's id, its basis and its reason."""
    found = service.find(NAME)
    assert found is not None
    offer, decision_id, _ = service.choose(found, "")
    return decision_id, offer.key.basis, offer.reason


@pytest.mark.parametrize("jump", JUMPS, ids=["an hour forward", "a day back"])
def test_no_decision_is_stale_because_of_a_jump(
    service: WholeService, clock: ManualClock, jump: timedelta
) -> None:
    """The snapshot's age comes from a clock that can't be set; time that passes still counts."""
    clock.jump(jump)
    assert choose(service)[1:] == (Basis.POLICY, Reason.POLICY)
    clock.advance(MAX_STALENESS + 1)
    assert choose(service)[1:] == (Basis.FALLBACK, Reason.STALE)


@pytest.mark.parametrize("jump", JUMPS, ids=["an hour forward", "a day back"])
def test_rewards_count_once_across_a_jump(service: WholeService, clock: ManualClock, jump: timedelta) -> None:
    """A reward recorded before the jump is a duplicate after it; lateness goes by the service clock."""
    before, open_ended = choose(service)[0], choose(service)[0]
    report = PostedReward(before, {"clicks": 1.0}, 0)
    assert service.reward(report) == {"clicks": OutcomeResult.RECORDED}
    clock.jump(jump)
    assert service.reward(report) == {"clicks": OutcomeResult.DUPLICATE}
    expected = OutcomeResult.LATE if jump > timedelta() else OutcomeResult.RECORDED
    assert service.reward(PostedReward(open_ended, {"clicks": 1.0}, 0)) == {"clicks": expected}
    assert service.reward(PostedReward(open_ended, {"spend": 1.0}, 0)) == {"spend": OutcomeResult.RECORDED}
    after = choose(service)[0]
    assert service.reward(PostedReward(after, {"clicks": 1.0}, 0)) == {"clicks": OutcomeResult.RECORDED}


@pytest.mark.parametrize("jump", JUMPS, ids=["an hour forward", "a day back"])
def test_epochs_go_on_across_a_jump(service: WholeService, clock: ManualClock, jump: timedelta) -> None:
    """The next epoch has the next number, whatever its clock reads, and shares still follow."""
    clock.jump(jump)
    service.run(service.experiments.pause(NAME, None))
    service.run(service.experiments.start(NAME, None))
    service.allocate()
    live = service.snapshot.find_by_name(NAME)
    assert live is not None
    assert live.epoch is not None
    assert live.epoch.number >= 2
    assert sum(live.epoch.shares.values()) == pytest.approx(1.0, abs=1e-9)
