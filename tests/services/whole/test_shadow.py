"""A challenger in shadow, from its first request to the look that lets it go on."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.decision_id import Basis
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.shadow_pairs import pair_process
from bandit.launch.claims import ClaimKind
from bandit.launch.gates import Look
from bandit.launch.mirroring import ShadowCounts, count_shadow
from bandit.launch.plan import LaunchPlan, Mode, Stage, StageKind
from bandit.launch.rulings import Action, rule
from bandit.metric import Direction, Metric
from server.services.choose.chooser import Choice
from server.services.reports.launch.look import look_at
from server.services.reward.ledger import PostedReward
from server.services.verification import verify
from server.store.records import OutcomeResult, ReportFacts
from tests.bandit.builders import HOUR, MINUTE, declare
from tests.services.support import LAG, ManualClock
from tests.services.whole.service import WholeService
from tests.store.builders import silently

NAME = "ranker"
CLICKS = Metric(name="clicks", window=HOUR, default_value=0.0)
ERROR = Metric(name="error", direction=Direction.MINIMIZE, window=MINUTE, is_shadow=True)
STAGES = (Stage(kind=StageKind.SHADOW, minimum_outcomes=40), Stage(kind=StageKind.BANDIT))
DECLARED = replace(
    declare(NAME, metrics=[CLICKS, ERROR]), launch=LaunchPlan(stages=STAGES, mode=Mode.AUTOMATIC)
)


@pytest.fixture
def service(tmp_path: Path, clock: ManualClock) -> Iterator[WholeService]:
    """A service whose one challenger is in shadow."""
    started = WholeService(f"sqlite:///{tmp_path / 'shadow.db'}", clock)
    started.run(started.experiments.create(DECLARED))
    started.run(started.experiments.start(NAME, None))
    yield started
    started.stop()


def serve(service: WholeService, number: int) -> Choice:
    """Answer a request without an error."""
    found = service.find(NAME)
    assert found is not None
    choice = service.choose(found, f"user-{number}")
    post(service, choice.decision_id, 0)
    return choice


def post(service: WholeService, decision: str, error: int) -> None:
    """Post whether there was an error."""
    answer = service.reward(PostedReward(decision, {"error": error}, 0))
    assert answer == {"error": OutcomeResult.RECORDED}


def read(service: WholeService, clock: ManualClock) -> ReportFacts:
    """Return what the store knows once every window has closed."""
    service.flush()
    clock.advance(120)
    service.refresh()
    known = service.store.read_report(NAME, timedelta(seconds=LAG), clock.now())
    assert known is not None
    return known


def look(known: ReportFacts, clock: ManualClock) -> Look:
    """Return the look at it."""
    found = look_at(known, timedelta(seconds=LAG), clock.now())
    assert found is not None
    return found


def seen(known: ReportFacts) -> ShadowCounts:
    """Return what the challenger saw."""
    return count_shadow(1, known.found.epochs, known.found.facts, known.shadows)


def test_a_shadow_is_judged_by_its_pairs(service: WholeService, clock: ManualClock) -> None:
    """Errors of every second request are evidence against it, and with its pairs its gates are open."""
    for number in range(40):
        choice = serve(service, number)
        (shadow,) = choice.shadows
        post(service, shadow.decision_id, number % 2)
    known = read(service, clock)
    counts = seen(known)
    assert (counts.n_decisions, counts.n_mirrored, counts.n_pairs) == (40, 40, 40)
    found = look(known, clock)
    figures = found.figures["challenger"]
    assert (figures.decisions, figures.outcomes, figures.mirrored) == (40, 40, 1.0)
    assert found.holds("challenger") == ()
    goal, harm = found.claims["challenger"]
    assert (goal.metric, goal.kind, goal.pairs) == ("clicks", ClaimKind.BETTER, None)
    assert (harm.metric, harm.kind) == ("error", ClaimKind.COMPARED)
    assert harm.pairs is not None
    assert (harm.pairs.n, harm.pairs.shadow, harm.pairs.champion) == (40, 0.5, 0.0)
    assert 0.0 < harm.pairs.lower < 0.5 < harm.pairs.upper < 1.0
    (ruling,) = rule(found)
    assert (ruling.action, ruling.arm) == (Action.ADVANCE, "challenger")
    evidence = pair_process(counts.pairs[1], ERROR)
    assert isinstance(evidence, EProcess)
    assert evidence.value > 1000


def test_what_a_shadow_does_is_no_one_elses(service: WholeService, clock: ManualClock) -> None:
    """Facts equal the log, each outcome under its own arm and basis, and shares and beliefs do not move."""
    for number in range(40):
        (shadow,) = serve(service, number).shadows
        post(service, shadow.decision_id, 1)
    known = read(service, clock)
    assert verify(service.store, silently).is_clean
    counted = {(key.arm, key.basis): n for key, n in known.found.facts.decisions.items()}
    assert counted == {(0, Basis.POLICY): 40, (1, Basis.SHADOW): 40}
    sums = {(key.arm, key.basis): tally.total for key, tally in known.found.facts.outcomes.items()}
    assert sums == {(0, Basis.POLICY): 0, (1, Basis.SHADOW): 40}
    service.allocate()
    epoch = service.find(NAME)
    assert epoch is not None
    assert (dict(epoch.epoch.shares), dict(epoch.epoch.shadows)) == ({0: 1.0, 1: 0.0}, {1: 1.0})


def test_a_caller_that_never_mirrors_keeps_it_in_shadow(service: WholeService, clock: ManualClock) -> None:
    """Not a pair is counted, and its gates stay shut."""
    for number in range(40):
        serve(service, number)
    known = read(service, clock)
    counts = seen(known)
    assert (counts.n_decisions, counts.n_mirrored, counts.n_pairs) == (40, 0, 0)
    found = look(known, clock)
    shut = {gate.name: gate.figure for gate in found.gates("challenger") if not gate.is_open}
    assert shut == {"minimum_outcomes": 0, "minimum_mirrored": 0}
    assert rule(found) == ()


def test_a_reward_of_an_earlier_stage_counts_there(service: WholeService, clock: ManualClock) -> None:
    """A shadow's outcome that comes after it has gone on is credited to the shadow, and to its own epoch."""
    (shadow,) = serve(service, 0).shadows
    service.flush()
    clock.advance(5)
    service.run(service.experiments.pause(NAME, None))
    service.run(service.experiments.start(NAME, None))
    post(service, shadow.decision_id, 1)
    (key,) = [key for key in read(service, clock).found.facts.outcomes if key.basis is Basis.SHADOW]
    assert (key.epoch, key.arm) == (1, 1)
