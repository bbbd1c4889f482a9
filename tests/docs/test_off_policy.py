"""The estimate of `reports.md` from exported files equals the report's and the library's value."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.experiment import SEGMENT_ALL
from bandit.inference import Design, EvidenceTable, SplitValue, evidence_table, value_of_split
from bandit.v1 import experiment_pb2
from benchmarks.harness.processes import clean_environment
from server.store.opening import open_reader
from server.store.records import ExperimentFacts
from tests.docs.pages import ROOT
from tests.support.closing import CLOCK_SLACK, LAG, WINDOW, closing_soon, send_until_closed
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire, experiment, metric

PAGE = (ROOT / "server" / "docs" / "reports.md").read_text()
BLOCKS = re.findall(r"^<!-- off policy -->\n```(sh|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MINIMUM_SHARE = 0.1
"""Experiment of the quick start, which the page's script uses."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Start a server with the quick start's experiment, a window for its metric, and three closed epochs."""
    with closing_soon(tmp_path) as started:
        wire = Wire(started.address)
        demo = experiment(
            name="demo",
            arms=[experiment_pb2.Arm(id="v1"), experiment_pb2.Arm(id="v2")],
            champion="v1",
            metrics=[metric("click", window=Duration(seconds=int(WINDOW)), default_value=0.0)],
            limits=experiment_pb2.Limits(minimum_share=MINIMUM_SHARE),
        )
        wire.create(demo)
        wire.start("demo")
        wire.close()
        send_until_closed(started, "demo", {"v1": 0.2, "v2": 0.6}, n_epochs=3)
        yield started


def printed_by_the_page(folder: Path) -> tuple[float, float]:
    """Run the page's export and scripts, and return the printed difference and value of a split."""
    assert [language for language, _ in BLOCKS] == ["sh", "python", "python"]
    (_, shell), *scripts = BLOCKS
    script = "\n".join(text for _, text in scripts)
    shell = shell.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    for command in (["bash", "-ec", shell], [sys.executable, "-c", script]):
        done = subprocess.run(
            command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    difference, value = map(float, done.stdout.split())
    return difference, value


def value_in(found: ExperimentFacts, now: datetime) -> SplitValue:
    """Return the library's value of an even split at `now`."""
    record = found.record
    epochs = [epoch for epoch in found.epochs if epoch.segment == SEGMENT_ALL]
    click = record.experiment.metric("click")
    arms = list(record.arm_numbers.values())
    table = evidence_table(
        found.facts,
        epochs,
        (record.metric_numbers["click"], click),
        arms,
        lag=timedelta(seconds=LAG),
        now=now,
    )
    assert isinstance(table, EvidenceTable)
    floors = {record.arm_numbers[arm.id]: MINIMUM_SHARE for arm in record.experiment.arms}
    value = value_of_split(table, dict.fromkeys(arms, 0.5), Design(floors=floors))
    assert isinstance(value, SplitValue)
    return value


def test_the_pages_estimate_equals_the_reports(server: ServerProcess, tmp_path: Path) -> None:
    """Overlap and inverse propensity weights of exported evidence, as in the page, agree to ten digits."""
    wire = Wire(server.address)
    wire.pause("demo")
    last = wire.report("demo").epochs[-1].start_time.ToNanoseconds() / 1e9
    eventually(lambda: time.time() - CLOCK_SLACK > last + LAG + WINDOW)  # no epoch closes after this
    difference, printed = printed_by_the_page(tmp_path)
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    store = open_reader(server.url)
    try:
        with store.read_history("demo") as history:
            assert history is not None
            value = value_in(history.found, datetime.fromisoformat(manifest["exported_at"]))
    finally:
        store.close()
    assert printed == pytest.approx(value.ips_value, rel=1e-12)
    report = wire.report("demo")
    (split,) = report.splits
    wire.close()
    comparison = report.arms[1].metrics[0].comparison
    assert comparison.difference.value == pytest.approx(difference, rel=1e-9)
    assert 0.05 < difference < 0.9
    assert (dict(split.weights), split.value.n) == ({"v1": 0.5, "v2": 0.5}, value.n_decisions)
    assert split.ips_value == pytest.approx(printed, rel=1e-12)
    assert value.n_decisions >= 300
    assert 0.1 < printed < 0.9
