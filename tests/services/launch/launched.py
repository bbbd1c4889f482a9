"""A launch in a whole service whose clock a test moves, with traffic of as many decisions as it likes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from bandit.experiment import Arm, Experiment
from bandit.launch.gates import HoldCause
from bandit.launch.plan import LaunchPlan, Mode, Stage, StageKind
from bandit.launch.state import ArmLaunch, ArmState
from bandit.limits import Limits
from bandit.metric import Direction, Metric
from server.services.launch.verbs import LaunchAnswer, Verb, VerbArguments
from server.services.reports.launch.view import ArmView
from server.services.reward.ledger import PostedReward
from server.services.snapshot.offers import CompiledExperiment
from server.store.records import Event, ExperimentRecord
from tests.bandit.builders import MINUTE, SECOND, declare
from tests.services.support import ManualClock
from tests.services.whole.service import WholeService
from tests.support.answers import Answer, answering

NAME: Final = "ranker"
WINDOW: Final = 10 * SECOND
CYCLE: Final = 10 * MINUTE
STEP: Final = 60.0
"""Seconds between two looks: less than three ticks, so that each counts in full."""

CLICK: Final = Metric(name="click", window=WINDOW, default_value=0.0)
ERROR: Final = Metric(
    name="error", direction=Direction.MINIMIZE, is_guardrail=True, window=WINDOW, default_value=0.0
)
SEEN: Final = replace(ERROR, is_shadow=True)
"""The same metric, compared in shadow."""

CANARY: Final = Stage(kind=StageKind.CANARY, share=0.1)
RAMP: Final = Stage(kind=StageKind.RAMP, shares=(0.2, 0.3))
BANDIT: Final = Stage(kind=StageKind.BANDIT)
LIMITS: Final = Limits(champion_minimum_share=0.2)
ALIKE: Final = {"v1": 0.1, "v2": 0.1, "v3": 0.1, "v4": 0.1}
FEW: Final = {"v1": 0.02, "v2": 0.02, "v3": 0.02, "v4": 0.02}


def declared(
    *challengers: str,
    stages: Sequence[Stage] = (CANARY, RAMP, BANDIT),
    limits: Limits = LIMITS,
    metrics: Sequence[Metric] = (CLICK, ERROR),
    **plan: Any,
) -> Experiment:
    """Return an experiment with a launch of these challengers of v1, by default of v2 alone."""
    experiment = declare(
        NAME,
        arms=[Arm(id=arm_id) for arm_id in ("v1", *(challengers or ("v2",)))],
        metrics=metrics,
        limits=limits,
    )
    settings: dict[str, Any] = {"mode": Mode.AUTOMATIC, "cycle": CYCLE, "minimum_cycles": 1}
    return replace(experiment, launch=LaunchPlan(stages=tuple(stages), **settings | plan))


class Launched:
    """An experiment with a launch, in a service at work.

    Args:
        service: The service.
        clock: Its clock.
        experiment: Started at once.

    Attributes:
        answer: How arms answer; at first all alike.
        is_mirroring: Whether shadows answer, too; at first they don't.
    """

    def __init__(self, service: WholeService, clock: ManualClock, experiment: Experiment) -> None:
        self.service = service
        self.clock = clock
        self.answer: Answer = answering(click=ALIKE, error=FEW)
        self.is_mirroring = False
        service.chooser._generator.seed(1)
        service.run(service.experiments.create(experiment))
        service.run(service.experiments.start(NAME, None))

    @property
    def record(self) -> ExperimentRecord:
        """The experiment as it is stored."""
        return self.service.run(self.service.experiments.get(NAME)).record

    @property
    def champion(self) -> str:
        """The champion."""
        return self.record.experiment.champion

    @property
    def found(self) -> CompiledExperiment:
        """The experiment as Choose finds it."""
        found = self.service.find(NAME)
        assert found is not None
        return found

    @property
    def events(self) -> list[Event]:
        """All that happened."""
        events = self.service.store.list_events(NAME, 0, 1_000)
        assert events is not None
        return events

    def arm(self, arm_id: str = "v2") -> ArmLaunch:
        """Return the launch of an arm."""
        assert self.record.launch is not None
        return self.record.launch.arms[arm_id]

    def state(self, arm_id: str = "v2") -> ArmState:
        """Return where an arm is."""
        return self.arm(arm_id).state

    def share(self, arm_id: str = "v2") -> float:
        """Return an arm's share in force."""
        return self.found.epoch.shares.get(self.record.arm_numbers[arm_id], 0.0)

    def view(self, arm_id: str = "v2") -> ArmView:
        """Return what `launch show` shows of an arm."""
        answer = self.service.run(self.service.launches.get(NAME))
        return next(arm for arm in answer.view.arms if arm.arm == arm_id)

    def holds(self, arm_id: str = "v2") -> set[HoldCause]:
        """Return what keeps an arm from moving."""
        return {hold.cause for hold, _ in self.view(arm_id).holds}

    def covered(self, arm_id: str = "v2") -> timedelta:
        """Return the time that counts for an arm's step."""
        found = self.service.store.read_report(NAME, timedelta(), self.clock.now())
        assert found is not None
        stored = found.looks.get(self.record.arm_numbers[arm_id])
        if stored is None or stored.entry != self.arm(arm_id).entry:
            return timedelta()
        return sum(stored.covered.values(), timedelta())

    def traffic(self, n: int = 300) -> list[tuple[str, str]]:
        """Decide, and post what the arms answer; return the decisions, each with its arm."""
        choices = self.service.chooser.choose_each([(self.found, "")] * n)
        decided = [(choice.decision_id, choice.offer.arm.id) for choice in choices]
        answered = [(id_, self.answer(arm_id)) for id_, arm_id in decided]
        if self.is_mirroring:
            shadows = [shadow for choice in choices for shadow in choice.shadows]
            answered += [
                (each.decision_id, {"error": self.answer(each.offer.arm.id)["error"]}) for each in shadows
            ]
        self.service.reward_each([PostedReward(id_, outcomes, 0) for id_, outcomes in answered if outcomes])
        return decided

    def wait(self, seconds: float = STEP) -> None:
        """Let time pass, and let the service do what it does all the time, without a look at launches."""
        self.clock.advance(seconds)
        self.service.look()
        self.service.flush()
        self.service.refresh()
        self.service.allocate()

    def step(self, n: int = 300) -> None:
        """Let traffic flow for a minute, and look."""
        self.traffic(n)
        self.wait()
        self.service.control()

    def steps(self, count: int, n: int = 300) -> None:
        """Let traffic flow for some minutes."""
        for _ in range(count):
            self.step(n)

    def until(self, *states: ArmState, arm_id: str = "v2", most: int = 60, n: int = 300) -> None:
        """Let traffic flow until an arm is in one of these states."""
        for _ in range(most):
            if self.state(arm_id) in states:
                return
            self.step(n)
        raise AssertionError(f"{arm_id} is {self.state(arm_id)}: {self.view(arm_id).sentence}")

    def act(self, verb: Verb, arm: str = "v2", caller: str = "ann", **arguments: Any) -> LaunchAnswer:
        """Carry out a verb."""
        asked = VerbArguments(name=NAME, arm=arm, **{"reason": "because"} | arguments)
        return self.service.run(self.service.launches.act(verb, asked, caller))

    def what(self, *kinds: str) -> list[tuple[str, str]]:
        """Return arm and kind of events about arms: of these kinds, or all but looks and what held arms."""
        left_out = {"look", "blocked"}
        return [
            (event.arm, event.kind)
            for event in self.events
            if event.arm and (event.kind in kinds if kinds else event.kind not in left_out)
        ]
