"""An experiment with arms in shadow, and the outcomes of requests that they saw, for tests of the store."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from bandit.decision_id import Basis, new_id
from bandit.experiment import AnalysisUnit, Arm, Experiment
from bandit.facts.shadow_pairs import ShadowFacts
from bandit.launch.shadow_id import shadow_id
from bandit.metric import Metric, MetricKind
from server.store.contract import Store
from server.store.records import ExperimentRecord, RewardEntry, SealedEpochs, State
from server.store.sql_store import SqlStore
from tests.bandit.builders import START, declare, make_epoch
from tests.store.builders import reward

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
END = b"\xff" * 16
ERROR = Metric(name="error", is_shadow=True)
ANSWERED = Metric(name="answered", window=HOUR, default_value=1.0, is_shadow=True)
CLICK = Metric(name="click")
SPEED = Metric(name="speed", kind=MetricKind.REAL, maximum=4.0, is_shadow=True)
METRICS = (CLICK, ERROR, ANSWERED, SPEED)
MAXIMUM = 2**20
"""The largest value of a real metric, in quanta of the log."""

LATER = START + DAY
_bits = count(1)


def ranker(store: Store, unit: AnalysisUnit = AnalysisUnit.DECISION) -> ExperimentRecord:
    """Run an experiment in whose first epoch the arms 1 and 2 are in shadow, and in the second arm 1."""
    arms = [Arm(id=each) for each in ("champion", "first", "second")]
    declared: Experiment = replace(declare(arms=arms, metrics=METRICS), analysis_unit=unit)
    draft = store.create_experiment(declared, START)
    running = replace(draft, state=State.RUNNING, started_at=START, updated_at=START)
    epoch = make_epoch(shares={0: 1.0}, experiment=draft.number, revision=draft.revision)
    record = store.change_experiment(draft, running, replace(epoch, shadows={1: 1.0, 2: 0.5}))
    following = replace(epoch, number=2, started_at=START + HOUR, revision=record.revision)
    assert store.add_epoch(replace(following, shadows={1: 1.0})) is not None
    return record


def decision_at(instant: datetime = START) -> bytes:
    """Return the id of a decision of that instant, the arms in shadow see it under ids of their own."""
    return new_id(int(instant.timestamp() * 1000), next(_bits) << 16 | 0xABCD)


def champion(decision: bytes, values: Mapping[int, int], *, epoch: int = 1, unit: int = 0) -> RewardEntry:
    """Return the champion's outcomes of a decision, in quanta by metric number."""
    entry = reward(decision, values=values, epoch=epoch)
    return entry._replace(unit=unit) if unit else entry


def shadow(decision: bytes, arm: int, values: Mapping[int, int], *, epoch: int = 1) -> RewardEntry:
    """Return an arm's outcomes of what it saw of a decision."""
    own = shadow_id(decision, arm)
    return reward(own, values=values, epoch=epoch, arm=arm, basis=Basis.SHADOW)


def read(store: Store, record: ExperimentRecord, now: datetime = LATER) -> ShadowFacts:
    """Return what came of the shadow decisions; all windows have closed unless `now` is earlier."""
    found = store.read_shadows(record.number, timedelta(seconds=5), now)
    assert found is not None
    return found


def seal(store: SqlStore, record: ExperimentRecord, epoch: int = 1) -> None:
    """Seal an epoch, so that it can be purged."""
    store.seal([SealedEpochs(record.number, 1, epoch, START, decision_at())], LATER)
    assert store.settle_seals()
