"""Launches of stored experiments: what starting, declaring, moving and concluding do to them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.launch import moves
from bandit.launch.launching import Launching, Occasion
from bandit.launch.plan import LaunchPlan, Mode
from bandit.launch.state import ArmState, Launch
from bandit.limits import Limits
from server.services.choose.chooser import Question
from server.services.errors import (
    ExperimentChangedError,
    InvalidInputError,
    LaunchRefusedError,
    NoLaunchError,
    TransitionRefusedError,
)
from server.services.experiments import launching
from server.services.snapshot.offers import Reason
from server.store.records import ExperimentRecord, State
from tests.bandit.builders import START, declare
from tests.bandit.launch.launches import BANDIT, PLAN, declare_launch
from tests.services.support import ManualClock
from tests.services.whole.service import WholeService

AUTOMATIC = replace(PLAN, mode=Mode.AUTOMATIC)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def service(tmp_path: Path, clock: ManualClock) -> Iterator[WholeService]:
    """A whole service on a file."""
    started = WholeService(f"sqlite:///{tmp_path / 'bandit.db'}", clock)
    yield started
    started.stop()


def begin(service: WholeService, experiment: Experiment) -> ExperimentRecord:
    """Create and start an experiment."""
    service.run(service.experiments.create(experiment))
    return service.run(service.experiments.start(experiment.name, None, "ann")).record


def update(service: WholeService, after: Experiment, *, validate_only: bool = False) -> ExperimentRecord:
    """Declare an experiment anew, as applying a file does."""
    change = service.experiments.update(
        after.name, lambda _: after, None, caller="ann", validate_only=validate_only
    )
    return service.run(change).record


def stored(service: WholeService) -> ExperimentRecord:
    """Return the experiment as the store has it."""
    found = service.store.find_experiment("ranker")
    assert found is not None
    return found


def launch_of(record: ExperimentRecord) -> Launch:
    """Return the launch of an experiment that has one."""
    assert record.launch is not None
    return record.launch


def states_of(record: ExperimentRecord) -> dict[str, ArmState]:
    """Return arm id to state."""
    return {arm_id: arm.state for arm_id, arm in launch_of(record).arms.items()}


def move(service: WholeService, *moves_of: launching.Move, revision: int | None = None) -> ExperimentRecord:
    """Make moves, each in a change of its own."""
    for each in moves_of:

        def change(record: ExperimentRecord, each: launching.Move = each) -> ExperimentRecord:
            when = launching.occasion_for(record, START, "bob", "because")
            return launching.moved(record, each, when)

        moved = service.experiments.move("ranker", change, event="moved", caller="bob", revision=revision)
        service.run(moved)
    return stored(service)


def shares_of(service: WholeService) -> dict[str, float]:
    """Return arm id to share in the epoch in force."""
    live = service.run(service.experiments.get("ranker"))
    assert live.epoch is not None
    return {live.record.arm_id(number): share for number, share in live.epoch.shares.items()}


def advance(arm: str) -> launching.Move:
    """Return a step of an arm."""
    return lambda before, when: moves.advanced(before, arm, when)


def promote(arm: str) -> launching.Move:
    """Return the promotion of an arm."""
    return lambda before, when: moves.promoted(before, arm, when)


def to_bandit(arm: str) -> list[launching.Move]:
    """Return the steps from waiting to the bandit stage."""
    return [advance(arm)] * 4


def end_holdback(before: Launching, when: Occasion) -> Launching:
    """Return the end of the holdback."""
    return moves.holdback_ended(before, when)


def test_a_draft_has_a_plan_and_no_launch(service: WholeService) -> None:
    """The launch begins with the experiment; until then no move can be made, and the error says so."""
    service.run(service.experiments.create(declare_launch()))
    assert stored(service).launch is None
    with pytest.raises(NoLaunchError, match="its launch begins when it is started"):
        move(service, advance("b"))
    assert stored(service).revision == 1


def test_an_experiment_without_a_plan_has_no_launch(service: WholeService) -> None:
    """It behaves as before there were launches."""
    assert begin(service, declare()).launch is None
    with pytest.raises(NoLaunchError, match=r"it declares no \[launch\]"):
        move(service, advance("challenger"))


@pytest.mark.parametrize(("plan", "state"), [(PLAN, ArmState.WAITING), (AUTOMATIC, ArmState.CANARY)])
def test_a_start_begins_the_launch(service: WholeService, plan: LaunchPlan, state: ArmState) -> None:
    """Who recommends only, waits for a person; who acts, takes the first step at once; each has its share."""
    record = begin(service, declare_launch(plan=plan))
    assert set(states_of(record).values()) == {state}
    assert {arm.revision for arm in launch_of(record).arms.values()} == {record.revision}
    share = 0.0 if state is ArmState.WAITING else 0.01
    assert shares_of(service) == pytest.approx({"a": 1 - 3 * share, "b": share, "c": share, "d": share})
    assert stored(service) == record


def test_a_second_start_begins_nothing_anew(service: WholeService) -> None:
    """Neither a repeated start nor one after a pause changes where challengers are."""
    begin(service, declare_launch())
    before = move(service, advance("b"))
    service.run(service.experiments.start("ranker", None))
    assert stored(service) == before
    service.run(service.experiments.pause("ranker", None))
    assert stored(service).launch == before.launch
    service.run(service.experiments.start("ranker", None))
    assert stored(service).launch == before.launch


def test_a_start_with_a_champion_that_is_taken_out_is_refused(service: WholeService) -> None:
    """Nothing has started, and the error names experiment and arm."""
    service.run(service.experiments.create(declare_launch([Arm(id="a", is_taken_out=True), "b"])))
    with pytest.raises(LaunchRefusedError, match="experiment 'ranker', arm 'a': it is the champion"):
        service.run(service.experiments.start("ranker", None))
    assert stored(service).state is State.DRAFT


def test_a_move_is_a_revision_with_an_epoch_of_its_own(service: WholeService) -> None:
    """The arm has its share with the same change, and the visit names its revision."""
    began = begin(service, declare_launch())
    after = move(service, advance("b"))
    assert after.revision == began.revision + 1
    visit = launch_of(after).arms["b"]
    assert (visit.revision, visit.entered_at, visit.reason) == (after.revision, START, "because")
    assert shares_of(service) == pytest.approx({"a": 0.99, "b": 0.01, "c": 0.0, "d": 0.0})
    live = service.run(service.experiments.get("ranker"))
    assert live.epoch is not None
    assert live.epoch.revision == after.revision


def test_a_refused_move_changes_nothing(service: WholeService) -> None:
    """The rules name the experiment and the arm."""
    began = begin(service, declare_launch())
    with pytest.raises(
        LaunchRefusedError, match=r"^experiment 'ranker', arm 'b': it is waiting; only the bandit"
    ):
        move(service, promote("b"))
    assert stored(service) == began


def test_a_move_on_another_revision_is_refused(service: WholeService) -> None:
    """A promotion is conditional on the revision that was evaluated."""
    began = begin(service, declare_launch())
    move(service, advance("c"))
    with pytest.raises(ExperimentChangedError):
        move(service, advance("b"), revision=began.revision)
    assert states_of(stored(service))["b"] is ArmState.WAITING


def test_arms_out_of_service_answer_nobody(service: WholeService) -> None:
    """Callers that name only such an arm get the champion; nobody is pinned to it."""
    begin(service, declare_launch())
    assert stored(service).arms_in_service == {"a"}
    move(service, advance("b"))
    assert stored(service).arms_in_service == {"a", "b"}
    experiment = service.find("ranker")
    assert experiment is not None
    assert {service.choose(experiment, f"u{number}").offer.arm.id for number in range(500)} <= {"a", "b"}
    for eligible in (("c",), ("c", "d")):
        fallback = service.chooser.choose_within(experiment, Question(unit="u", eligible_arms=eligible)).offer
        assert (fallback.arm.id, fallback.reason) == ("a", Reason.NO_ELIGIBLE_ARM)
    only = service.chooser.choose_within(experiment, Question(unit="u", eligible_arms=("b", "c")))
    assert (only.offer.arm.id, only.offer.terms.basis) == ("b", Basis.RESTRICTED)
    pinned = Question(unit="u", previous_decision_id=only.decision_id)
    assert service.chooser.choose_within(experiment, pinned).offer.arm.id == "b"
    move(service, lambda before, when: moves.rolled_back(before, "b", when))
    later = service.find("ranker")
    assert later is not None
    assert service.chooser.choose_within(later, pinned).offer.arm.id == "a"


def test_an_old_file_never_undoes_a_promotion(service: WholeService) -> None:
    """Applied again, the file that names the first champion changes nothing; another champion is refused."""
    declared = declare_launch()
    begin(service, declared)
    promoted = move(service, *to_bandit("b"), promote("b"))
    assert promoted.experiment.champion == "b"
    assert update(service, declared) == promoted
    assert update(service, replace(declared, champion="b")) == promoted
    described = update(service, replace(declared, description="new"))
    assert (described.experiment.champion, described.launch) == ("b", promoted.launch)
    assert described.experiment.description == "new"
    with pytest.raises(InvalidInputError) as caught:
        update(service, replace(declared, champion="c"))
    ((field, rule),) = caught.value.violations
    assert field == "champion"
    assert (
        rule == "'b' is champion in this launch: promote 'c' with `bandit-server launch promote`, or conclude"
    )
    assert stored(service) == described


def test_an_old_file_does_not_end_a_holdback(service: WholeService) -> None:
    """After the holdback, the former champion may leave the file."""
    declared = declare_launch()
    begin(service, declared)
    move(service, *to_bandit("b"), promote("b"))
    assert shares_of(service) == pytest.approx({"a": 0.05, "b": 0.95, "c": 0.0, "d": 0.0})
    over = move(service, end_holdback)
    assert update(service, declared) == over
    left = replace(declared, champion="b", arms=tuple(Arm(id=arm) for arm in "bcd"))
    after = update(service, left)
    assert after.launch == over.launch
    assert shares_of(service)["b"] == 1


def test_validation_only_changes_nothing(service: WholeService) -> None:
    """What would happen is answered, and nothing is stored."""
    declared = declare_launch()
    began = begin(service, declared)
    without_c = replace(declared, arms=tuple(Arm(id=arm) for arm in "abd"))
    shown = update(service, without_c, validate_only=True)
    assert states_of(shown)["c"] is ArmState.WITHDRAWN
    assert stored(service) == began


def test_a_launch_declared_for_a_running_experiment_moves_nobody(service: WholeService) -> None:
    """Its challengers have traffic already: they are in the bandit stage, and new ones wait."""
    plain = replace(declare_launch(limits=Limits(minimum_share=0.05)), launch=None)
    begin(service, plain)
    before = shares_of(service)
    record = update(service, replace(plain, launch=PLAN))
    assert set(states_of(record).values()) == {ArmState.BANDIT}
    assert shares_of(service) == pytest.approx(before)
    more = replace(plain, launch=PLAN, arms=(*plain.arms, Arm(id="e")))
    assert states_of(update(service, more))["e"] is ArmState.WAITING
    assert shares_of(service)["e"] == 0


def test_a_launch_can_not_be_removed_from_a_started_experiment(service: WholeService) -> None:
    """A draft may lose its plan; afterwards the field and the rule are named, and nothing changes."""
    declared = declare_launch(limits=Limits())
    service.run(service.experiments.create(declared))
    assert update(service, replace(declared, launch=None)).experiment.launch is None
    update(service, declared)
    service.run(service.experiments.start("ranker", None))
    with pytest.raises(InvalidInputError) as caught:
        update(service, replace(declared, launch=None))
    assert [field for field, _ in caught.value.violations] == ["launch"]
    assert stored(service).experiment.launch == PLAN


def test_limits_that_cut_an_arm_under_way_are_refused(service: WholeService) -> None:
    """The error names the arms and their shares, and nothing changes."""
    declared = declare_launch(plan=replace(PLAN, stages=(replace(PLAN.stages[0], share=0.3), BANDIT)))
    begin(service, declared)
    before = move(service, advance("b"), advance("c"))
    high = replace(declared, limits=Limits(champion_minimum_share=0.5))
    with pytest.raises(
        LaunchRefusedError, match=r"b 0\.3, c 0\.3, a at least 0\.5: together 1\.1, more than 1"
    ):
        update(service, high)
    assert stored(service) == before


def test_an_arm_taken_out_of_the_file_is_rolled_back(service: WholeService) -> None:
    """Its share is 0 with the same change, and removing the mark does not bring it back."""
    declared = declare_launch(plan=AUTOMATIC)
    begin(service, declared)
    out = replace(declared, arms=tuple(Arm(id=arm, is_taken_out=arm == "b") for arm in "abcd"))
    assert states_of(update(service, out))["b"] is ArmState.ROLLED_BACK
    assert shares_of(service)["b"] == 0
    assert states_of(update(service, declared))["b"] is ArmState.ROLLED_BACK
    assert shares_of(service)["b"] == 0


def test_a_conclusion_ends_the_launch(service: WholeService) -> None:
    """The winner has succeeded and answers; concluding again changes nothing; no move is left."""
    begin(service, declare_launch(plan=AUTOMATIC))
    service.run(service.experiments.conclude("ranker", "c", None))
    concluded = stored(service)
    assert states_of(concluded) == {
        "b": ArmState.WITHDRAWN,
        "c": ArmState.SUCCEEDED,
        "d": ArmState.WITHDRAWN,
    }
    service.run(service.experiments.conclude("ranker", "c", None))
    assert stored(service) == concluded
    experiment = service.find("ranker")
    assert experiment is not None
    assert service.choose(experiment, "u").offer.arm.id == "c"
    with pytest.raises(TransitionRefusedError):
        update(service, declare_launch())


def test_the_story_survives_a_restart(clock: ManualClock, tmp_path: Path) -> None:
    """A server that starts on the database knows every visit, and serves the same shares."""
    url = f"sqlite:///{tmp_path / 'bandit.db'}"
    first = WholeService(url, clock)
    begin(first, declare_launch())
    before, shares = move(first, *to_bandit("b"), promote("b")), shares_of(first)
    first.stop()
    second = WholeService(url, clock)
    assert stored(second) == before
    assert shares_of(second) == shares
    found = second.find("ranker")
    assert found is not None
    assert found.record.launch == before.launch
    second.stop()
