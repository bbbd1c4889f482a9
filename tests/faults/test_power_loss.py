"""A power cut on SQLite: no state of the disk that it can leave lacks an acknowledged reward.

The store runs on a disk that remembers every write and every sync. From that history the files are rebuilt
as a power cut at each moment may leave them, and opened with Python's own SQLite. The control shows that the
replay would notice a loss: with `synchronous=NORMAL`, which commits without a sync, acknowledged rewards are
lost.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from server.store.opening import open_store
from server.store.records import RewardEntry
from tests.store.builders import DUPLICATE, RECORDED, engines_of, facts_of, reward, run
from tests.support.faults.apsw_driver import drive_sqlalchemy
from tests.support.faults.disk import Acknowledged, Disk, Event, Platter, Survival, Synced

N_COMMITS: Final = 40
CHECKPOINT_PAGES: Final = 60
"""Pages of log before a checkpoint, fewer than the usual thousand, so that the run has several."""

SEED: Final = 8_128
SHARE_OF_STATES: Final = 0.2
"""Number of states tried of each crash point, drawn by the seed; every crash point is tried."""


@dataclass
class History:
    """What a store did to its disk, and what was sent to it.

    Attributes:
        events: In order, acknowledgements among them.
        sent: Decision mapped to entry.
        n_checkpoints: How often the log was copied into the database file.
    """

    events: list[Event] = field(default_factory=list)
    sent: dict[bytes, RewardEntry] = field(default_factory=dict)

    @property
    def n_checkpoints(self) -> int:
        """How often the database file itself was synced."""
        return self.events.count(Synced("bandit.db"))


@dataclass
class Findings:
    """What was found in the states of a disk after a power cut.

    Attributes:
        n_states: Tried.
        n_lossy: Lacked an acknowledged reward.
        n_ahead: Had a reward that was never acknowledged.
        wrong: What must not be found under any setting.
    """

    n_states: int = 0
    n_lossy: int = 0
    n_ahead: int = 0
    wrong: list[str] = field(default_factory=list)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk that every SQLite engine writes to from now on."""
    made = Disk("recorded-disk")
    undo = drive_sqlalchemy(made.name)
    yield made
    undo()
    made.unregister()


def record(disk: Disk, folder: Path, *changes: str) -> History:
    """Let a store commit rewards in groups of 1 to 30, and return what it did to the disk.

    Args:
        disk: Where it writes.
        folder: Of its database.
        changes: Pragmas in place of the store's own.
    """
    generator = random.Random(SEED)
    history = History()
    with closing(open_store(f"sqlite:///{folder / 'bandit.db'}")) as store:
        number = run(store).number
        with closing(engines_of(store)[0].raw_connection()) as connection:
            cursor = connection.cursor()
            for pragma in (f"wal_autocheckpoint={CHECKPOINT_PAGES}", *changes):
                cursor.execute(f"PRAGMA {pragma}")
        for commit in range(N_COMMITS):
            entries = [
                reward(experiment=number, arm=generator.randrange(2), quanta=generator.randrange(2))
                for _ in range(generator.randint(1, 30))
            ]
            history.sent.update((entry.decision, entry) for entry in entries)
            assert store.record_rewards(entries, commit % 2) == [RECORDED] * len(entries)
            disk.events.append(Acknowledged(frozenset(entry.decision for entry in entries)))
        history.events = list(disk.events)
    return history


def replay(history: History, folder: Path) -> Findings:
    """Cut the power after every event since the first acknowledgement, and inspect what is left."""
    generator = random.Random(SEED)
    platter, findings = Platter(), Findings()
    for event in history.events:
        platter.play(event)
        if not platter.acked:
            continue
        for survival in Survival:
            if generator.random() < SHARE_OF_STATES:
                look(platter.crashed(survival, generator), platter.acked, history, folder, findings)
    return findings


def look(
    files: dict[str, bytes], acked: set[bytes], history: History, folder: Path, findings: Findings
) -> None:
    """Open one state, and record what is there."""
    write_files(files, folder)
    findings.n_states += 1
    with closing(sqlite3.connect(folder / "bandit.db")) as connection:
        logged = {decision for (decision,) in connection.execute("SELECT decision FROM rewards")}
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            findings.wrong.append("the file is damaged")
        folded = "SELECT arm, count(*), sum(quanta) FROM rewards GROUP BY 1 ORDER BY 1"
        summed = "SELECT arm, sum(n), sum(total) FROM outcome_facts GROUP BY 1 ORDER BY 1"
        if connection.execute(folded).fetchall() != connection.execute(summed).fetchall():
            findings.wrong.append("the facts are not the fold of the log")
    if not logged <= history.sent.keys():
        findings.wrong.append("the log has what was never sent")
    findings.n_lossy += not acked <= logged
    findings.n_ahead += not logged <= acked


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write one state of a disk into a folder; the shared memory of the dead process is gone."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_a_power_cut_loses_no_acknowledged_reward(disk: Disk, tmp_path: Path) -> None:
    """In every state that a power cut can leave, whenever it comes, every acknowledged reward is there.

    The log holds nothing that was not sent, the facts are its fold, and the file is sound. Some states have a
    reward that was not acknowledged yet, so cuts did fall into commits.
    """
    (tmp_path / "run").mkdir()
    (tmp_path / "left").mkdir()
    history = record(disk, tmp_path / "run")
    assert history.n_checkpoints >= 3
    findings = replay(history, tmp_path / "left")
    assert findings.wrong == []
    assert findings.n_lossy == 0
    assert findings.n_states > 200
    assert findings.n_ahead > 0


def test_without_a_sync_the_same_replay_loses_rewards(disk: Disk, tmp_path: Path) -> None:
    """The control: with `synchronous=NORMAL` some states lack acknowledged rewards."""
    (tmp_path / "run").mkdir()
    (tmp_path / "left").mkdir()
    findings = replay(record(disk, tmp_path / "run", "synchronous=NORMAL"), tmp_path / "left")
    assert findings.n_lossy > 0
    assert findings.wrong == []  # it loses rewards, but what it has is whole


def test_after_a_power_cut_the_same_rewards_are_exact(disk: Disk, tmp_path: Path) -> None:
    """A store on what was left takes everything that was ever sent again: each reward counts once."""
    (tmp_path / "run").mkdir()
    (tmp_path / "left").mkdir()
    history = record(disk, tmp_path / "run")
    generator = random.Random(SEED)
    platter, n_doubtful = Platter(), 0
    cuts = set(generator.sample(range(len(history.events) // 2, len(history.events)), 12))
    for number, event in enumerate(history.events):
        platter.play(event)
        if number in cuts:
            write_files(platter.crashed(generator.choice(list(Survival)), generator), tmp_path / "left")
            n_doubtful += repeat_all(history, platter.acked, tmp_path / "left")
    assert n_doubtful > 0, "no reward was in doubt: the test saw nothing"


def repeat_all(history: History, acked: set[bytes], folder: Path) -> int:
    """Post every reward again; return how many were duplicates although never acknowledged."""
    with closing(open_store(f"sqlite:///{folder / 'bandit.db'}")) as store:
        verdicts = store.record_rewards(list(history.sent.values()), 0)
        verdict_of = dict(zip(history.sent, verdicts, strict=True))
        assert all(verdict_of[decision] == DUPLICATE for decision in acked)
        assert sum(tally.n for tally in facts_of(store).values()) == len(history.sent)
    return sum(verdict == DUPLICATE for decision, verdict in verdict_of.items() if decision not in acked)
