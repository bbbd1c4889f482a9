"""`bandit-server export` next to a running server: its files, and an estimate from them."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from click.testing import Result
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import experiment_pb2
from tests.support.closing import SETTINGS_FILE, WINDOW, closed_epochs, closing_soon, send_until_closed
from tests.support.ledger import number_of, query
from tests.support.process import ServerProcess
from tests.support.wire import Wire, metric

Run = Callable[..., Result]
RATES = {"a": 0.2, "b": 0.6}
SPLIT = {"a": 0.5, "b": 0.5}
DECIDED = "SELECT epoch, sum(decisions) FROM decision_facts WHERE experiment = ? AND basis = 1 GROUP BY epoch"
POSTED = "SELECT epoch, arm, total FROM outcome_facts WHERE experiment = ? AND basis = 1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server whose epochs close soon."""
    with closing_soon(tmp_path_factory.mktemp("exports")) as started:
        yield started


@pytest.fixture(scope="module")
def experiment(server: ServerProcess) -> str:
    """Make an experiment with traffic in several closed epochs, and in some open ones."""
    wire = Wire(server.address)
    name = wire.running(
        metrics=[metric("click", window=Duration(seconds=int(WINDOW)), default_value=0.0)],
        limits=experiment_pb2.Limits(minimum_share=0.05),
    )
    wire.close()
    send_until_closed(server, name, RATES, n_epochs=3)
    return name


def value_in_store(database: Path, name: str, now: float) -> float:
    """Return the IPS value of the split, from the store's tables and without code of the service."""
    number, arms = number_of(database, name), ("a", "b")
    shares = closed_epochs(database, name, now)
    decided = query(database, DECIDED, [number])
    posted = query(database, POSTED, [number])
    n = sum(count for epoch, count in decided if epoch in shares)
    weighted = [
        SPLIT[arms[arm]] * total / shares[epoch][arms[arm]] for epoch, arm, total in posted if epoch in shares
    ]
    return float(sum(weighted) / n)


def value_from(facts: list[dict[str, Any]]) -> float:
    """Return the IPS value of the split, from the rows of the facts, as in a notebook."""
    rows = [row for row in facts if row["basis"] == "policy" and row["is_closed"] in {True, "true"}]
    weighted = [SPLIT[row["arm"]] * float(row["resolved_total"]) / float(row["propensity"]) for row in rows]
    return sum(weighted) / sum(int(row["resolved"]) for row in rows)


def export(run: Run, server: ServerProcess, *arguments: str) -> Result:
    """Export with the server's settings."""
    config = str(server.database.with_name(SETTINGS_FILE))
    return run("export", *arguments, "--database", server.url, "--config", config)


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_an_estimate_from_the_files_equals_that_of_the_store(
    server: ServerProcess, experiment: str, run: Run, file_format: str
) -> None:
    """Inverse propensity weighting gives the same value from exported facts and from the store's tables."""
    result = export(run, server, experiment, "out", "--format", file_format)
    assert result.exit_code == 0, result.output
    exported_at = datetime.fromisoformat(json.loads(Path("out/manifest.json").read_text())["exported_at"])
    expected = value_in_store(server.database, experiment, exported_at.timestamp())
    if file_format == "parquet":
        facts = pyarrow.parquet.read_table("out/facts.parquet").to_pylist()
    else:
        facts = list(csv.DictReader(Path("out/facts.csv").read_text().splitlines()))
    assert value_from(facts) == pytest.approx(expected, rel=1e-12)
    assert 0.1 < expected < 0.9


def test_an_export_prints_what_it_wrote(server: ServerProcess, experiment: str, run: Run) -> None:
    """It prints tables, files and rows, and which epochs are closed."""
    result = export(run, server, experiment, "out")
    lines = result.stdout.splitlines()
    for table in ("facts", "epochs", "rewards"):
        n_rows = pyarrow.parquet.read_metadata(f"out/{table}.parquet").num_rows
        assert any(line.split() == [table, f"out/{table}.parquet", f"{n_rows:,}"] for line in lines), lines
    assert any(line.startswith("note: ") and "epochs are closed for click" in line for line in lines)
    assert result.stderr == ""


def test_one_file_is_the_facts(server: ServerProcess, experiment: str, run: Run) -> None:
    """One file has the facts, or the table given by --table, and nothing else is written."""
    assert export(run, server, experiment, "one.csv").exit_code == 0
    assert export(run, server, experiment, "log.parquet", "--table", "rewards").exit_code == 0
    assert "resolved_total" in Path("one.csv").read_text().splitlines()[0].split(",")
    assert "decided_at" in pyarrow.parquet.read_schema("log.parquet").names
    assert sorted(path.name for path in Path().iterdir()) == ["log.parquet", "one.csv"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "text"),
    [
        (("nobody", "out"), 1, "there is no experiment 'nobody'"),
        (("draft", "out"), 1, "draft has never run: it has no epoch, and so no decision to export"),
        (
            ("draft", "x.csv", "--format", "parquet"),
            2,
            "x.csv has the suffix of csv, but --format is parquet",
        ),
        (("draft", "x.csv", "--table", "facts", "--table", "epochs"), 2, "x.csv is one file and holds one"),
        (("draft", "out", "--lag-seconds", "0"), 2, "--lag-seconds: must be greater than 0, got '0'"),
        (("draft",), 2, "Missing argument 'TARGET'"),
    ],
)
def test_a_failed_export_is_reported_in_one_line(
    server: ServerProcess, run: Run, arguments: tuple[str, ...], exit_code: int, text: str
) -> None:
    """The error is one line, and no file is left behind."""
    make_draft(server)
    result = export(run, server, *arguments)
    assert (result.exit_code, text in result.stderr) == (exit_code, True), result.stderr
    assert "Traceback" not in result.output
    assert list(Path().iterdir()) == []


def make_draft(server: ServerProcess) -> None:
    """Create a draft named draft, unless it exists."""
    if not query(server.database, "SELECT 1 FROM experiments WHERE name = 'draft'"):
        wire = Wire(server.address)
        wire.create(
            experiment_pb2.Experiment(
                name="draft",
                arms=[experiment_pb2.Arm(id="a"), experiment_pb2.Arm(id="b")],
                champion="a",
                metrics=[metric("click")],
                reward_metric="click",
            )
        )
        wire.close()


def test_existing_files_are_replaced_only_by_force(server: ServerProcess, experiment: str, run: Run) -> None:
    """A second export to the same place is refused, and the error names --force."""
    assert export(run, server, experiment, "one.csv").exit_code == 0
    again = export(run, server, experiment, "one.csv")
    assert (again.exit_code, again.stderr) == (1, "error: already exists: one.csv; replace with --force\n")
    assert export(run, server, experiment, "one.csv", "--force").exit_code == 0


def test_without_pyarrow_only_parquet_fails(
    server: ServerProcess, experiment: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package to install and the alternative; CSV works without it."""
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    refused = export(run, server, experiment, "out")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "error: Parquet needs pyarrow: pip install 'bandit-allocator[export]', or export with --format csv"
    )
    assert not Path("out").exists()
    assert export(run, server, experiment, "out", "--format", "csv").exit_code == 0


def test_a_missing_database_is_reported(run: Run) -> None:
    """A missing database is an error, and is not created."""
    result = run("export", "ranker", "out", "--database", "sqlite:///nowhere.db")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: --database: there is no database nowhere.db\n",
    )
    assert list(Path().iterdir()) == []
