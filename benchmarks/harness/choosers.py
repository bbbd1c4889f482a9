"""The service's own Choose in this process, on one running experiment, without a network or a store."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime

from bandit.decision_id import Signer
from bandit.experiment import AnalysisUnit, Arm, Experiment
from bandit.facts import Epoch
from bandit.metric import Metric
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.choose.decision_ids import IdMaker
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, ExperimentRecord, LiveExperiment, State


def make_counter(kind: type[DecisionCounter] = DecisionCounter) -> DecisionCounter:
    """Return a counter of a new writer."""
    return kind(Writer(secrets.token_bytes(16), 0))


def make_chooser(
    n_arms: int = 2,
    *,
    unit: AnalysisUnit = AnalysisUnit.DECISION,
    counter: DecisionCounter | None = None,
    clock: Clock | None = None,
    id_maker: type[IdMaker] = IdMaker,
    kind: type[Chooser] = Chooser,
    n_shadows: int = 0,
) -> tuple[Chooser, CompiledExperiment]:
    """Return a chooser, and its one running experiment, whose arms have even shares.

    Args:
        n_arms: The number of arms.
        unit: The experiment's analysis unit.
        counter: Counts the decisions; by default one that is never read.
        clock: By default the host's.
        id_maker: Makes the ids of decisions.
        kind: The chooser's class.
        n_shadows: The number of arms besides that see all decisions of the champion in shadow.
    """
    clock = clock or Clock()
    live = _running_experiment(n_arms, n_shadows, unit)
    snapshot = Snapshot(clock)
    snapshot.apply(Changes((live,), frozenset(), 1), clock.monotonic())
    chooser = kind(
        snapshot,
        Signer({1: secrets.token_bytes(32)}, 1),
        counter or make_counter(),
        clock,
        lag_seconds=1e6,
        max_staleness_seconds=1e6,
        id_maker=id_maker,
    )
    compiled = snapshot.find(live.record.name)
    if compiled is None:
        raise RuntimeError("the experiment that was put in is not in the snapshot")
    return chooser, compiled


def _running_experiment(n_arms: int, n_shadows: int, unit: AnalysisUnit) -> LiveExperiment:
    """An experiment with even shares, as the store would have it."""
    now = datetime.now(UTC)
    declared = Experiment(
        name="ranker",
        arms=tuple(Arm(id=f"v{number + 1}") for number in range(n_arms + n_shadows)),
        champion="v1",
        metrics=(Metric(name="click"),),
        reward_metric="click",
        salt=secrets.token_bytes(16),
        analysis_unit=unit,
    )
    record = replace(ExperimentRecord.draft(declared, now), number=1, state=State.RUNNING, started_at=now)
    epoch = Epoch(
        experiment=1,
        segment=0,
        number=1,
        nonce=1,
        revision=1,
        started_at=now,
        champion=0,
        shares=dict.fromkeys(range(n_arms), 1 / n_arms),
        shadows=dict.fromkeys(range(n_arms, n_arms + n_shadows), 1.0),
    )
    return LiveExperiment(record, epoch)
