"""Freeze databases of this version's schema, for later versions to open.

Run `python -m tests.store.frozen.freeze` at a release, commit the three files that it writes, and add the
revision to `FROZEN` in `tests/store/test_frozen.py`. They are never written again: a changed file would no
longer test anything.

The content is made through the store's own interface at fixed instants: experiments in every state, epochs,
facts of two writers, and outcomes that are in time, late, revised, of fallbacks, and kept apart.
"""

import dataclasses
import json
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

from bandit.decision_id import NO_UNIT, Basis, DecisionTerms, Signer, new_id
from bandit.facts import DecisionKey
from server.services.reports.build import make_report
from server.services.reports.values import ReportRequest
from server.store.contract import Store
from server.store.opening import open_store
from server.store.records import ExperimentRecord, Flush, KeyRing, OutcomeEntry, RewardEntry, State
from server.store.tables.schema import HEAD
from tests.bandit.builders import START, declare, make_epoch
from tests.support.postgresql import PostgresqlProcess, dump

FOLDER: Final = Path(__file__).parent
KEYS: Final = KeyRing({1: b"first key of the frozen databases", 2: b"second key of the frozen database"}, 2)
REPORTED_AT: Final = START + timedelta(days=3)
NAMES: Final = ("concluded", "paused", "running")
N_EPOCHS: Final = 3
N_REWARDS: Final = 40
LAG: Final = timedelta(seconds=5)
_NOT_NEEDED: Final = ("--", "\\", "SET ", "SELECT pg_catalog.set_config")
"""Comments, lines that only psql understands, and settings that not every PostgreSQL has."""


def fill(store: Store) -> list[str]:
    """Write the content; return the ids of some decisions that were rewarded."""
    signer = Signer(store.adopt_keys(KEYS).secrets, KEYS.signing_key)
    slots = [store.claim_slot(bytes([writer]) * 16, START) for writer in (1, 2)]
    store.create_experiment(declare("draft"), START)
    decision_ids: list[str] = []
    for name in NAMES:
        record = _start(store, name)
        for number in range(1, N_EPOCHS + 1):
            decision_ids = [*decision_ids, *_live_through(store, record, number, signer, slots)]
    _end(store, "concluded", State.CONCLUDED)
    _end(store, "paused", State.PAUSED)
    deleted = store.create_experiment(declare("deleted"), START)
    store.delete_experiment(deleted, START)
    return decision_ids


def _start(store: Store, name: str) -> ExperimentRecord:
    draft = store.create_experiment(declare(name), START)
    running = dataclasses.replace(draft, state=State.RUNNING, started_at=START)
    epoch = make_epoch(1, START, experiment=draft.number, revision=2, nonce=101)
    return store.change_experiment(draft, running, epoch)


def _end(store: Store, name: str, state: State) -> None:
    record = store.find_experiment(name)
    assert record is not None
    winner = "challenger" if state is State.CONCLUDED else None
    ended_at = START + timedelta(days=1)
    after = dataclasses.replace(record, state=state, winner=winner, updated_at=ended_at)
    store.change_experiment(record, after)


def _live_through(
    store: Store, record: ExperimentRecord, number: int, signer: Signer, slots: list[int]
) -> list[str]:
    started_at = START + timedelta(hours=number - 1)
    shares = {0: 0.5 - 0.1 * number, 1: 0.5 + 0.1 * number}
    means = {0: {0: 0.1, 1: 0.2}} if number > 1 else {}
    epoch = make_epoch(
        number,
        started_at,
        shares,
        experiment=record.number,
        revision=record.revision,
        nonce=100 + number,
        warming_up=frozenset({1}) if number == 1 else frozenset(),
        means=means,
    )
    stored = store.add_epoch(epoch)
    assert stored is not None
    for writer, slot in enumerate(slots, start=1):
        sequence = 10 * record.number + number
        counts = {DecisionKey(record.number, number, 0, arm, Basis.POLICY): 100 + arm for arm in (0, 1)}
        store.add_decisions(
            Flush(slot=slot, incarnation=bytes([writer]) * 16, sequence=sequence, counts=counts)
        )
    entries = [_entry(record, number, index) for index in range(N_REWARDS)]
    store.record_rewards(entries, slots[0])
    revised = [entry._replace(revision=1, outcomes=(OutcomeEntry(0, 1, is_late=False),)) for entry in entries]
    store.record_rewards(revised[:3], slots[1])
    return [_signed(entry, 100 + number, signer) for entry in entries[:2]]


def _entry(record: ExperimentRecord, epoch: int, index: int) -> RewardEntry:
    at_ms = int((START + timedelta(hours=epoch - 1, seconds=index)).timestamp() * 1000)
    return RewardEntry(
        decision=new_id(at_ms, record.number),
        experiment=record.number,
        epoch=epoch,
        segment=0,
        arm=index % 2,
        basis=Basis.FALLBACK if index == 5 else Basis.POLICY,
        outcomes=(
            OutcomeEntry(0, int(index % 3 == 0), index == 7),
            OutcomeEntry(1, 1_000 * index, index == 7),
        ),
        revision=0,
        received_ms=at_ms + 500,
        is_apart=index == 9,
    )


def _signed(entry: RewardEntry, nonce: int, signer: Signer) -> str:
    terms = DecisionTerms(entry.experiment, entry.epoch, nonce, 0, entry.arm, entry.basis, 0.5)
    return signer.sign(entry.decision, terms.pack(), NO_UNIT)


def reports(store: Store) -> dict[str, object]:
    """Return the reports on the experiments that have epochs, at a fixed instant, as JSON."""
    found = {name: _report(store, name) for name in NAMES}
    return dict(json.loads(json.dumps(found)))


def _report(store: Store, name: str) -> object:
    known = store.read_report(name)
    assert known is not None
    report = make_report(known, ReportRequest(max_epochs=10), LAG, REPORTED_AT)
    return {
        "state": known.found.record.state,
        "n_epochs": report.n_epochs,
        "arms": {
            arm.arm: {
                "share": arm.share,
                "decisions": {basis.name: count for basis, count in arm.decisions.items()},
                "probability_best": arm.probability_best,
                "metrics": {
                    metric.metric: {"mean": metric.mean, "interval": list(metric.interval)}
                    for metric in arm.metrics
                },
            }
            for arm in report.arms
        },
    }


def _freeze(folder: Path) -> Mapping[str, str]:
    """Return file names mapped to content."""
    file = folder / "bandit.db"
    with closing(open_store(f"sqlite:///{file}")) as store:
        decision_ids = fill(store)
        expected = {"decision_ids": decision_ids, "reports": reports(store)}
    with closing(sqlite3.connect(file)) as connection:
        sqlite_dump = "\n".join(connection.iterdump())
    server = PostgresqlProcess(folder / "postgresql")
    try:
        url = server.create_database()
        with closing(open_store(url)) as store:
            assert fill(store) == decision_ids
        lines = dump(url, "--inserts", "--no-owner").stdout.splitlines()
        postgresql_dump = "\n".join(line for line in lines if line and not line.startswith(_NOT_NEEDED))
    finally:
        server.stop()
    return {
        f"{HEAD}.sqlite.sql": f"{sqlite_dump}\n",
        f"{HEAD}.postgresql.sql": f"{postgresql_dump}\n",
        f"{HEAD}.json": json.dumps(expected, indent=1) + "\n",
    }


def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in _freeze(Path(folder)).items():
            with (FOLDER / name).open("x") as file:
                file.write(content)


if __name__ == "__main__":
    _main()
