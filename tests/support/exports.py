"""An experiment with every case that an export has to distinguish, and its files read back."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet

from bandit.decision_id import Basis
from bandit.facts import DecisionKey
from bandit.metric import Metric, MetricKind
from server.services.exports.exporter import export
from server.services.exports.manifest import ExportReport
from server.services.exports.targets import FileFormat, plan_target
from server.store.contract import Store
from server.store.records import ExperimentRecord, OutcomeEntry, Progress, RewardEntry, State
from tests.bandit.builders import MINUTE, SECOND, START, declare, make_epoch
from tests.store.builders import INCARNATION, flush, reward, silently

NAME: Final = "team-a/ranker"
CLICK: Final = Metric(name="click", window=MINUTE, default_value=0.0)
SPEND: Final = Metric(
    name="spend", kind=MetricKind.REAL, minimum=-0.3, maximum=99.7, window=MINUTE, default_value=0.1
)
SHARES: Final = ({0: 0.5, 1: 0.5}, {0: 0.8, 1: 0.2}, {0: 0.9, 1: 0.1})
LAG: Final = 5 * SECOND
NOW: Final = START + 4 * MINUTE
"""Of three epochs, begun at minutes 1, 2 and 3, only the first has closed."""


def create(store: Store) -> ExperimentRecord:
    """Create a running experiment of two arms and two metrics, in its third epoch."""
    draft = store.create_experiment(declare(NAME, arms=("v1", "v2"), metrics=(CLICK, SPEND)), START)
    running = replace(draft, state=State.RUNNING, started_at=START, updated_at=START)
    epochs = [
        make_epoch(
            number,
            START + number * MINUTE,
            shares,
            experiment=draft.number,
            revision=draft.revision + 1,
            warming_up=frozenset({1} if number == 1 else ()),
            means={0: {0: 0.25, 1: 0.5}},
        )
        for number, shares in enumerate(SHARES, 1)
    ]
    record = store.change_experiment(draft, running, epochs[0])
    for epoch in epochs[1:]:
        assert store.add_epoch(epoch) == epoch
    return record


def fill(store: Store) -> ExperimentRecord:
    """Record decisions and outcomes of every kind: late, revised, kept apart, and of three bases."""
    record = create(store)
    generator = random.Random(20_26)
    store.claim_slot(INCARNATION, START)
    counts = {
        DecisionKey(record.number, epoch, 0, arm, basis): generator.randint(50, 90)
        for epoch in (1, 2, 3)
        for arm in (0, 1)
        for basis in (Basis.POLICY, Basis.RESTRICTED, Basis.FALLBACK)
    }
    store.add_decisions(flush(1, counts))
    entries = [_some_entry(record.number, generator) for _ in range(400)]
    store.record_rewards(entries, 0)
    revised = [_revised(entry) for entry in entries[::7]]
    store.record_rewards(revised, 0)
    return record


def _some_entry(experiment: int, generator: random.Random) -> RewardEntry:
    is_late = generator.random() < 0.2
    spent = _spent(generator.uniform(SPEND.minimum, SPEND.maximum), is_late=is_late)
    entry = reward(
        experiment=experiment,
        epoch=generator.randint(1, 3),
        arm=generator.randint(0, 1),
        basis=generator.choice((Basis.POLICY, Basis.POLICY, Basis.RESTRICTED, Basis.FALLBACK)),
        is_apart=generator.random() < 0.05,
    )
    return entry._replace(outcomes=(OutcomeEntry(0, generator.randint(0, 1), is_late), spent))


def _revised(entry: RewardEntry) -> RewardEntry:
    is_late = entry.outcomes[0].is_late
    return entry._replace(outcomes=(OutcomeEntry(0, 1, is_late), _spent(1.5, is_late=is_late)), revision=3)


def _spent(value: float, *, is_late: bool) -> OutcomeEntry:
    return OutcomeEntry(1, SPEND.quantise(value), is_late, value, is_real=True)


def write(
    store: Store,
    path: Path,
    file_format: FileFormat | None = None,
    *,
    now: datetime = NOW,
    name: str = NAME,
    may_replace: bool = False,
    progress: Progress = silently,
) -> ExportReport:
    """Export the experiment to a path."""
    target = plan_target(path, file_format, [])
    return export(store, name, target, lag=LAG, now=now, may_replace=may_replace, progress=progress)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file."""
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def files_in(folder: Path) -> Sequence[str]:
    """Return the names of everything in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())
