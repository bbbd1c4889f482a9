"""An export holds exactly what the store holds: every sum, every share, and what may be weighted by it."""

import doctest
import errno
import json
import os
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from sqlalchemy import delete

from bandit.facts import Tally
from bandit.metric import Metric
from server.services import exports
from server.services.exports import exporter
from server.services.exports.errors import ExportError
from server.services.exports.tables import FACTS, REWARDS, TableName
from server.services.exports.targets import FileFormat
from server.store.columns.exact_sums import in_quanta
from server.store.opening import open_store
from server.store.sql_store import SqlStore
from server.store.tables.schema import rewards
from tests.bandit.builders import MINUTE, START, declare, make_epoch
from tests.store.builders import reward, run, silently, sums_of
from tests.support.exports import (
    CLICK,
    LAG,
    NAME,
    NOW,
    SHARES,
    SPEND,
    create,
    files_in,
    fill,
    read_parquet,
    write,
)

METRICS = {metric.name: metric for metric in (CLICK, SPEND)}
BASES = ("policy", "restricted", "fallback")
EVERY_FILE = ["epochs.parquet", "evidence.parquet", "facts.parquet", "manifest.json", "rewards.parquet"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store."""
    opened = open_store(f"sqlite:///{tmp_path / 'bandit.db'}")
    yield opened
    opened.close()


@pytest.fixture(params=["postgresql", "sqlite"])
def any_store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    """An empty store of each backend."""
    if request.param == "sqlite":
        yield request.getfixturevalue("store")
    else:
        opened = open_store(request.getfixturevalue("postgresql").create_database())
        yield opened
        opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where exports go; it does not exist yet."""
    return tmp_path / "exports" / "today"


def exact_sums(metric: Metric, n: int, total: int, squares: int) -> tuple[float, float]:
    """Return sum and sum of squares in the metric's unit, by rational arithmetic and rounded once."""
    low, step = Fraction(metric.offset), Fraction(metric.quantum)
    return float(low * n + step * total), float(low**2 * n + 2 * low * step * total + step**2 * squares)


def test_facts_are_the_stores_to_the_last_bit(store: SqlStore, folder: Path) -> None:
    """Counts are equal, and sums are the whole numbers of the store in the metric's unit, rounded once."""
    fill(store)
    write(store, folder)
    stored = {
        (key.epoch, key.arm, key.basis.name.lower(), key.metric): in_quanta(tally, is_real=key.metric == 1)
        for key, tally in sums_of(store).items()
    }
    rows = read_parquet(folder / "facts.parquet")
    assert len(rows) == 3 * 2 * 3 * 2
    for row in rows:
        number, metric = list(METRICS).index(row["metric"]), METRICS[row["metric"]]
        tally = stored.get((row["epoch"], int(row["arm"] == "v2"), row["basis"], number), Tally())
        assert (row["outcomes"], row["late_outcomes"]) == (tally.n, tally.late_n)
        assert (row["total"], row["squares"]) == exact_sums(metric, *tally[:3])
        assert (row["late_total"], row["late_squares"]) == exact_sums(metric, *tally[3:])


def test_the_log_adds_up_to_the_facts(any_store: SqlStore, folder: Path) -> None:
    """Values of the log, back in quanta and folded, are every sum of the facts; kept-apart ones in none."""
    fill(any_store)
    write(any_store, folder)
    folded: defaultdict[tuple[object, ...], Tally] = defaultdict(Tally)
    for row in read_parquet(folder / "rewards.parquet"):
        if not row["is_apart"]:
            key = row["epoch"], row["arm"], row["basis"], row["metric"]
            quanta = METRICS[row["metric"]].quantise(row["value"])
            folded[key] = folded[key].plus(Tally.of(quanta, is_late=row["is_late"]))
    for row in read_parquet(folder / "facts.parquet"):
        metric, tally = METRICS[row["metric"]], folded[row["epoch"], row["arm"], row["basis"], row["metric"]]
        assert (row["outcomes"], row["late_outcomes"]) == (tally.n, tally.late_n)
        assert (row["total"], row["squares"]) == exact_sums(metric, *tally[:3])
        assert (row["late_total"], row["late_squares"]) == exact_sums(metric, *tally[3:])


def test_silence_is_among_what_a_closed_epoch_resolved(store: SqlStore, folder: Path) -> None:
    """Every decision of a closed epoch counts, by default as silence; none of an open epoch does."""
    fill(store)
    write(store, folder)
    rows = read_parquet(folder / "facts.parquet")
    assert {row["epoch"] for row in rows if row["is_closed"]} == {1}
    for row in rows:
        resolved = row["resolved"], row["resolved_total"], row["resolved_squares"]
        if not row["is_closed"]:
            assert resolved == (None, None, None)
            continue
        metric = METRICS[row["metric"]]
        assert metric.default_value is not None
        default = metric.to_value(metric.quantise(metric.default_value))
        n_silent = row["decisions"] - row["outcomes"]
        assert n_silent > 0
        assert resolved[0] == row["decisions"]
        assert resolved[1] == pytest.approx(row["total"] + n_silent * default, rel=1e-12)
        assert resolved[2] == pytest.approx(row["squares"] + n_silent * default**2, rel=1e-12)


def test_only_policy_decisions_have_a_propensity(store: SqlStore, folder: Path) -> None:
    """A propensity is the stored share; restricted, certain and kept-apart decisions can't be weighted."""
    fill(store)
    write(store, folder)
    logged = read_parquet(folder / "rewards.parquet")
    assert {row["basis"] for row in logged} == set(BASES)
    assert any(row["is_apart"] for row in logged)
    for row in [*read_parquet(folder / "facts.parquet"), *logged]:
        is_drawn = row["basis"] == "policy" and not row.get("is_apart", False)
        share = SHARES[row["epoch"] - 1][int(row["arm"] == "v2")]
        assert row["propensity"] == (share if is_drawn else None)


def test_epochs_are_the_history_of_the_shares(store: SqlStore, folder: Path) -> None:
    """Every arm has its share, champion, warm-up, start, end and means; the last epoch has not ended."""
    create(store)
    write(store, folder)
    rows = read_parquet(folder / "epochs.parquet")
    assert [(row["epoch"], row["arm"], row["share"]) for row in rows] == [
        (number, f"v{arm + 1}", share)
        for number, shares in enumerate(SHARES, 1)
        for arm, share in shares.items()
    ]
    assert [row["is_champion"] for row in rows] == [True, False] * 3
    assert [row["is_warming_up"] for row in rows] == [False, True] + [False] * 4
    assert [row["is_closed"] for row in rows] == [True] * 2 + [False] * 4
    assert [row["started_at"] for row in rows[::2]] == [START + n * MINUTE for n in (1, 2, 3)]
    assert [row["ended_at"] for row in rows[::2]] == [START + 2 * MINUTE, START + 3 * MINUTE, None]
    assert [(row["mean_click"], row["mean_spend"]) for row in rows[:2]] == [(0.25, None), (0.5, None)]


def test_epochs_say_what_each_arm_saw_in_shadow(store: SqlStore, folder: Path) -> None:
    """The propensity of a shadow decision is that of its epoch, to the last bit."""
    record = create(store)
    shadowed = make_epoch(
        4, START + 4 * MINUTE, {0: 1.0, 1: 0.0}, experiment=record.number, revision=record.revision
    )
    assert store.add_epoch(replace(shadowed, shadows={1: 0.3})) is not None
    write(store, folder)
    rows = read_parquet(folder / "epochs.parquet")
    assert [row["shadow_propensity"] for row in rows] == [None] * 7 + [19_661 / 65_536]


def test_an_arm_that_was_never_given_is_a_fact(store: SqlStore, folder: Path) -> None:
    """Every arm with a share has a row of policy decisions, so that weighting sees all possible arms."""
    create(store)
    write(store, folder)
    rows = read_parquet(folder / "facts.parquet")
    assert [(row["epoch"], row["arm"], row["metric"]) for row in rows] == [
        (epoch, arm, metric) for epoch in (1, 2, 3) for arm in ("v1", "v2") for metric in METRICS
    ]
    assert {row["basis"] for row in rows} == {"policy"}
    assert {(row["decisions"], row["outcomes"], row["total"]) for row in rows} == {(0, 0, 0.0)}
    assert [row["mean_at_start"] for row in rows[:4]] == [0.25, None, 0.5, None]


def test_an_epoch_is_closed_when_nothing_of_it_can_be_in_time(store: SqlStore, tmp_path: Path) -> None:
    """An epoch closes at the start of the next one plus lag and window, and not a moment before."""
    create(store)
    closes_at = START + 2 * MINUTE + LAG + MINUTE
    write(store, tmp_path / "before", now=closes_at - MINUTE / 6_000_000)
    write(store, tmp_path / "at", now=closes_at)
    assert not any(row["is_closed"] for row in read_parquet(tmp_path / "before" / "facts.parquet"))
    assert any(row["is_closed"] for row in read_parquet(tmp_path / "at" / "facts.parquet"))


@pytest.mark.parametrize("is_filled", [True, False])
def test_csv_holds_what_parquet_holds(store: SqlStore, tmp_path: Path, *, is_filled: bool) -> None:
    """Values agree to the last bit, as do empty fields and instants, and also without any reward."""
    (fill if is_filled else create)(store)
    write(store, tmp_path / "parquet", FileFormat.PARQUET)
    write(store, tmp_path / "csv", FileFormat.CSV)
    for table in TableName:
        expected = pyarrow.parquet.read_table(tmp_path / "parquet" / f"{table}.parquet")
        converted = pyarrow.csv.ConvertOptions(
            column_types=expected.schema,
            strings_can_be_null=True,
            null_values=[""],
            true_values=["true"],
            false_values=["false"],
        )
        found = pyarrow.csv.read_csv(tmp_path / "csv" / f"{table}.csv", convert_options=converted)
        assert found.equals(expected), table
        assert (expected.num_rows > 0) == (is_filled or table is not TableName.REWARDS)


def test_files_describe_their_columns(store: SqlStore, folder: Path) -> None:
    """Parquet describes every column, and the manifest describes all of them and the rules of the metrics."""
    fill(store)
    report = write(store, folder)
    for name, columns in ((TableName.FACTS, FACTS), (TableName.REWARDS, REWARDS)):
        schema = pyarrow.parquet.read_schema(folder / f"{name}.parquet")
        assert schema.names == [column.name for column in columns]
        assert [field.metadata[b"description"].decode() for field in schema] == [c.meaning for c in columns]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["experiment"], manifest["exported_at"]) == (NAME, NOW.isoformat())
    assert manifest["lag_seconds"] == LAG.total_seconds()
    assert [(m["name"], m["window_seconds"], m["default_value"]) for m in manifest["metrics"]] == [
        ("click", 60.0, 0.0),
        ("spend", 60.0, 0.1),
    ]
    described = {name: (table["file"], table["rows"]) for name, table in manifest["tables"].items()}
    assert described == {table.name: (table.path.name, table.n_rows) for table in report.tables}
    for file, n_rows in described.values():
        assert pyarrow.parquet.read_metadata(folder / file).num_rows == n_rows
    assert manifest["notes"] == list(report.notes)


def test_notes_state_what_may_be_weighted_and_what_is_missing(store: SqlStore, tmp_path: Path) -> None:
    """Notes give the closed epochs, the rewards kept apart, and the epochs whose outcomes the log lacks."""
    fill(store)
    whole = write(store, tmp_path / "whole")
    n_apart = sum(row["is_apart"] for row in read_parquet(tmp_path / "whole" / "rewards.parquet"))
    apart = f"{n_apart} rewards are kept apart and in no fact: their epochs are not those stored"
    assert list(whole.notes) == ["1 of 3 epochs are closed for click; weight only these", apart]
    with store._dialect.writing() as connection:
        purged = connection.execute(delete(rewards).where(rewards.c.epoch == 2, ~rewards.c.is_apart)).rowcount
    n_counted = sum(tally.n + tally.late_n for tally in store.compare_ledger(silently)[1].values())
    lacking = write(store, tmp_path / "lacking").notes[-1]
    assert lacking == (
        f"{purged} of {n_counted} outcomes that the facts count are no longer in the log: "
        "they belong to epochs 2 to 2"
    )


def test_without_a_window_a_note_warns(store: SqlStore, folder: Path) -> None:
    """Without a window outcomes count at once, and weighting them favours arms that report early."""
    record = run(store)
    store.record_rewards([reward(experiment=record.number)], 0)
    report = write(store, folder, name="ranker")
    assert list(report.notes) == [
        "clicks has no window: weighted means lean towards arms whose outcomes come sooner"
    ]
    assert {row["is_closed"] for row in read_parquet(folder / "facts.parquet")} == {True}


def test_a_dropped_metric_keeps_its_outcomes(store: SqlStore, folder: Path) -> None:
    """A dropped metric's outcomes keep its unit if it has one; what its silence meant is no longer known."""
    record = fill(store)
    declared = replace(record.experiment, metrics=(CLICK,))
    store.change_experiment(record, record.declaring(declared))
    write(store, folder)
    spend = [row for row in read_parquet(folder / "facts.parquet") if row["metric"] == "spend"]
    assert spend
    assert all(row["outcomes"] + row["late_outcomes"] > 0 and row["resolved"] is None for row in spend)
    assert "spend" in {row["metric"] for row in read_parquet(folder / "rewards.parquet")}


def test_a_large_log_is_written_in_pieces(
    store: SqlStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more rows are held at once than a batch, each a row group, and progress tells how far it is."""
    monkeypatch.setattr(exporter, "_BATCH", 100)
    fill(store)
    steps: list[tuple[int, int]] = []
    write(store, folder, progress=lambda done, total: steps.append((done, total)))
    metadata = pyarrow.parquet.read_metadata(folder / "rewards.parquet")
    assert metadata.num_rows == 800
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [100] * 8
    assert [done for done, _ in steps] == list(range(0, 801, 100))
    assert all(done <= total for done, total in steps)


def test_files_that_are_there_are_replaced_on_request_only(store: SqlStore, folder: Path) -> None:
    """Any existing file stops the export, and then every file stays as it was."""
    create(store)
    write(store, folder)
    before = (folder / "facts.parquet").read_bytes()
    fill_more(store)
    with pytest.raises(ExportError, match=r"already exists: .*facts\.parquet.*; replace with --force"):
        write(store, folder)
    assert (folder / "facts.parquet").read_bytes() == before
    write(store, folder, may_replace=True)
    assert (folder / "facts.parquet").read_bytes() != before
    assert files_in(folder) == EVERY_FILE


def test_an_export_that_fails_leaves_what_was_there(store: SqlStore, folder: Path) -> None:
    """A failed export leaves neither new files nor half of one, and removes the folders that it made."""
    fill(store)

    def fail(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(store, folder, progress=fail)
    assert not folder.parent.exists()
    write(store, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write(store, folder, progress=fail, may_replace=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("file_format", FileFormat)
def test_a_full_disk_is_reported_and_leaves_nothing(
    store: SqlStore, folder: Path, file_format: FileFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's error for a write is passed on with the file's name."""
    fill(store)

    def refuse(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ExportError, match=rf"facts\.{file_format}: no space left on device"):
        write(store, folder, file_format)
    assert not folder.exists()


def test_a_folder_that_can_not_be_made_is_reported(store: SqlStore, tmp_path: Path) -> None:
    """A file in a folder's place, and a place where no folder can be made, are reported."""
    create(store)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"file/facts\.parquet: not a directory"):
        write(store, tmp_path / "file")
    with pytest.raises(ExportError, match=r"/proc/nowhere: no such file or directory"):
        write(store, Path("/proc/nowhere/export"))


def test_what_never_ran_has_nothing_to_export(store: SqlStore, folder: Path) -> None:
    """A draft and an unknown name are refused; for the latter the nearest name is given."""
    store.create_experiment(declare("draft"), START)
    with pytest.raises(ExportError, match="draft has never run: it has no epoch"):
        write(store, folder, name="draft")
    with pytest.raises(ExportError, match=r"there is no experiment 'draff'; did you mean draft\?"):
        write(store, folder, name="draff")
    with pytest.raises(ExportError, match=r"there is no experiment 'x'$"):
        write(store, folder, name="x")
    assert not folder.exists()


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(exports.__path__)])
def test_the_examples_in_docstrings_hold(name: str) -> None:
    """Every docstring example holds."""
    assert doctest.testmod(import_module(f"{exports.__name__}.{name}")).failed == 0


def fill_more(store: SqlStore) -> None:
    """Record one more outcome."""
    store.record_rewards([reward()], 0)
