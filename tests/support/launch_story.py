"""A launch whose story never varies: one challenger fires a guardrail, then the other is promoted.

Outcomes are so clear that no delay changes a verdict, and traffic makes the order of events certain: the good
challenger gets no outcome, which its first step waits for, before the bad one is out.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import cycle, pairwise
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from bandit.launch.state import ArmLaunch
from bandit.v1 import bandit_pb2, event_pb2, experiment_pb2, launch_pb2
from server.store.records import EventKind, ExperimentRecord
from tests.bandit.builders import START
from tests.support.ledger import decision_of
from tests.support.process import eventually
from tests.support.wire import Wire, experiment, metric

CHAMPION, GOOD, BAD = "v1", "v2", "v3"
MAX_STALENESS: Final = 2
STEP_SECONDS: Final = 2
"""How long each step of the ramp takes at least."""

LAUNCH_FLAGS: Final = ("--guardrail-seconds", "0.2", "--gate-seconds", "1", "--lag-seconds", "1")
STORY: Final = (
    ("", "created", ""),
    ("", "started", ""),
    (GOOD, "stage", "canary at 20 %"),
    (BAD, "stage", "canary at 20 %"),
    (BAD, "rolled_back", "rolled back"),
    (GOOD, "stage", "ramp at 25 %"),
    (GOOD, "stage", "ramp at 30 %"),
    (GOOD, "stage", "bandit"),
    (GOOD, "promoted", "promoted"),
    (CHAMPION, "holdback", "the former champion"),
    (GOOD, "concluded", ""),
    (GOOD, "succeeded", "succeeded"),
    (CHAMPION, "replaced", "replaced"),
)
"""Arm, kind, and what the arm came to, of what happens without faults."""

ROLLED_BACK: Final = 5
"""How much has happened once the bad challenger is out."""

POINTS: Final = (5, 6, 7, 8, 10, 4)
"""How much may have happened when a fault comes: after each change that another one follows."""

_LONGEST_SECONDS: Final = 90.0
"""From one event to another, on a machine that is busy."""

_NOTES: Final = frozenset({EventKind.LOOK, EventKind.BLOCKED})
"""Events that say what was seen, of which a fault may cause more."""

Told = tuple[str, str, str]


def launched() -> experiment_pb2.Experiment:
    """Return the experiment, of its own name."""
    stage = launch_pb2.LaunchStage
    stages = [
        stage(kind=launch_pb2.LAUNCH_STAGE_KIND_CANARY, share=0.2, minimum_outcomes=20),
        stage(
            kind=launch_pb2.LAUNCH_STAGE_KIND_RAMP,
            shares=[0.25, 0.3],
            minimum_outcomes=20,
            minimum_duration=Duration(seconds=STEP_SECONDS),
        ),
        stage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT),
    ]
    plan = launch_pb2.LaunchPlan(
        stages=stages,
        mode=launch_pb2.LAUNCH_MODE_AUTOMATIC,
        cycle=Duration(seconds=3),
        minimum_cycles=1,
        holdback=launch_pb2.LaunchHoldback(share=0.2, cycles=1),
        after_holdback=launch_pb2.AFTER_HOLDBACK_CONCLUDE,
        max_staleness=Duration(seconds=MAX_STALENESS),
    )
    errors = metric("error", direction=experiment_pb2.DIRECTION_MINIMIZE, guardrail=True)
    return experiment(
        arms=[experiment_pb2.Arm(id=arm) for arm in (CHAMPION, GOOD, BAD)],
        champion=CHAMPION,
        metrics=[metric("click", window=Duration(seconds=1), default_value=0.0), errors],
        limits=experiment_pb2.Limits(champion_minimum_share=0.2),
        launch=plan,
    )


def told(events: Sequence[event_pb2.Event]) -> list[Told]:
    """Return what happened; fail unless events are numbered without gaps."""
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    happened = [each for each in events if each.kind not in _NOTES]
    return [(each.arm, each.kind, str(dict(each.figures).get("to", ""))) for each in happened]


def ending(record: ExperimentRecord) -> ExperimentRecord:
    """Return an experiment as it is left, without what names it and when and why it happened."""
    assert record.launch is not None
    arms = {arm_id: _timeless(arm) for arm_id, arm in record.launch.arms.items()}
    declared = replace(record.experiment, name="x", salt=bytes(16))
    return replace(
        record,
        experiment=declared,
        launch=replace(record.launch, arms=arms),
        number=0,
        created_at=START,
        updated_at=START,
        started_at=START,
        concluded_at=START,
    )


def _timeless(arm: ArmLaunch) -> ArmLaunch:
    return replace(arm, entered_at=START, reason="")


def _is_over(happened: list[Told]) -> bool:
    return any(kind == EventKind.CONCLUDED for _, kind, _ in happened)


class Traffic:
    """Callers of servers, one each, which choose and reward without end.

    Args:
        name: The experiment.
        wires: The servers.

    Attributes:
        acked: The decisions of which a reward was acknowledged.
        n_acked: How many rewards each server acknowledged.
        failed: Calls of Choose that failed, by server.
        ailing: Servers whose failures are expected.
        is_bad_out: Whether the good challenger gets outcomes.
    """

    def __init__(self, name: str, wires: Sequence[Wire]) -> None:
        self.name = name
        self._wires = wires
        self.acked: set[bytes] = set()
        self.n_acked: Counter[int] = Counter()
        self.failed: list[tuple[int, grpc.StatusCode]] = []
        self.ailing: set[int] = set()
        self.is_bad_out = False
        self._is_over = threading.Event()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Call all servers meanwhile."""
        threads = [threading.Thread(target=self._call, args=[index]) for index in range(len(self._wires))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def await_work(self, servers: Sequence[int], seconds: float) -> None:
        """Wait until each of these servers has acknowledged some more rewards."""
        before = Counter(self.n_acked)
        eventually(lambda: all(self.n_acked[each] > before[each] + 20 for each in servers), seconds=seconds)

    def _call(self, index: int) -> None:
        """Choose and reward again and again, at one server."""
        request = bandit_pb2.ChooseRequest(experiment=self.name)
        stub = self._wires[index].bandit
        while not self._is_over.wait(0.01):
            try:
                chosen = stub.Choose(request, timeout=2)
            except grpc.RpcError as error:
                if index not in self.ailing:
                    self.failed.append((index, error.code()))
                continue
            self._reward(index, chosen)

    def _reward(self, index: int, chosen: bandit_pb2.ChooseResponse) -> None:
        """Post the outcomes of a decision until they are acknowledged."""
        outcomes = self._outcomes(chosen.arm)
        reward = bandit_pb2.RewardRequest(decision_id=chosen.decision_id, outcomes=outcomes)
        while not self._is_over.is_set():
            try:
                self._wires[index].bandit.Reward(reward, timeout=2)
            except grpc.RpcError:
                continue
            self.acked.add(decision_of(chosen.decision_id))
            self.n_acked[index] += 1
            return

    def _outcomes(self, arm: str) -> Mapping[str, float]:
        if arm == BAD:
            return {"error": 1.0}
        if arm == GOOD and not self.is_bad_out:
            return {"error": 0.0}
        return {"error": 0.0, "click": float(arm == GOOD)}


class Story:
    """Follows what happens to an experiment, at whichever server answers.

    Args:
        traffic: Is told when the bad challenger is out.
        wires: The servers.

    Attributes:
        events: What happened so far.
    """

    def __init__(self, traffic: Traffic, wires: Sequence[Wire]) -> None:
        self._traffic = traffic
        self._wires = cycle(wires)
        self._wire = next(self._wires)
        self.events: list[event_pb2.Event] = []

    def await_told(self, number: int) -> None:
        """Wait until so much has happened."""
        eventually(lambda: len(self._read()) >= number, seconds=_LONGEST_SECONDS)

    def await_end(self) -> list[Told]:
        """Return what happened, once the experiment is concluded; fail if a step was cut short."""
        happened = eventually(self._read, until=_is_over, seconds=_LONGEST_SECONDS)
        steps = [each.time.ToDatetime() for each in self.events if each.kind == EventKind.STAGE]
        _, _, *ramp_and_bandit = steps
        lasted = [after - before for before, after in pairwise(ramp_and_bandit)]
        # A look counts time from its own begin, and a busy server stores its step some time later.
        assert min(lasted) > timedelta(seconds=STEP_SECONDS / 2), (
            f"a step was taken before its time: {lasted}"
        )
        return happened

    def _read(self) -> list[Told]:
        threading.Event().wait(0.1)  # a server has more to do than to be asked
        last = self.events[-1].sequence if self.events else 0
        request: dict[str, Any] = {"experiment": self._traffic.name, "after_sequence": last}
        try:
            answer = self._wire.experiments.ListEvents(event_pb2.ListEventsRequest(**request), timeout=2)
        except grpc.RpcError:
            self._wire = next(self._wires)
            return told(self.events)
        self.events += answer.events
        happened = told(self.events)
        self._traffic.is_bad_out = any(arm == BAD and kind == "rolled_back" for arm, kind, _ in happened)
        return happened
