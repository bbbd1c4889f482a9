"""The HTML page of a report: self-contained, well-formed, escaped, with every arm and number."""

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from bandit.facts import Facts
from bandit.limits import Limits
from bandit.metric import Metric, MetricKind
from bandit.v1 import evidence_pb2, experiment_pb2
from server.cli.report_view.html_page import render_page
from server.cli.report_view.plots import MOST_ARMS, density_of
from server.cli.report_view.sections import sections
from server.cli.report_view.tables import belief_table, evidence_tables
from tests.bandit.builders import HOUR, MINUTE, START, binary_tally, decision_key, declare, outcome_key
from tests.bandit.builders import make_epoch as epoch
from tests.support.process import ServerProcess
from tests.support.reports import CLICK, ERROR, drawn, report_on
from tests.support.wire import Wire

Run = Callable[..., Result]
SPEND = Metric(name="spend", kind=MetricKind.REAL, maximum=10.0, window=MINUTE)


def report(n_arms: int = 3) -> experiment_pb2.Report:
    """Return a report on three metrics over five closed epochs."""
    arms = range(n_arms)
    epochs = [
        epoch(number, START + number * HOUR, shares=dict.fromkeys(arms, 1 / n_arms)) for number in range(1, 7)
    ]
    cells = [(number, arm) for number in range(1, 6) for arm in arms]
    facts = Facts(
        decisions={decision_key(*cell): 200 for cell in cells},
        outcomes={
            outcome_key(*cell, metric=metric): binary_tally(10 + 5 * cell[1], 10 + 5 * cell[1])
            for cell in cells
            for metric in (0, 1, 2)
        },
    )
    declared = declare(
        arms=[f"arm-{arm}" for arm in arms],
        metrics=[CLICK, ERROR, SPEND],
        limits=Limits(minimum_share=0.2 / n_arms),
    )
    return report_on(declared, epochs, facts, now=START + 20 * HOUR)


@pytest.fixture(scope="module")
def made() -> experiment_pb2.Report:
    """Return a report with all sections."""
    return report()


@pytest.fixture(scope="module")
def page(made: experiment_pb2.Report) -> str:
    """Return its page."""
    return render_page(made)


def parsed(page: str) -> ET.Element:
    """Parse the page, without its doctype."""
    doctype, _, rest = page.partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ET.fromstring(rest)  # noqa: S314 - our own page


def test_a_page_is_well_formed_and_its_ids_are_unique(page: str) -> None:
    """Drawings on one page share no ids, and every reference has its target."""
    ids = [element.attrib["id"] for element in parsed(page).iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids)) > 0
    references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page))
    assert {first or second for first, second in references} <= set(ids)


def test_a_page_needs_no_network(page: str) -> None:
    """It has no script, image or style sheet from elsewhere, and a policy that forbids them."""
    assert "default-src 'none'" in page
    assert not re.findall(r"<(script|img|link|iframe|object)\b|\bsrc=|@import|url\((?!#)", page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_page_has_every_cell_and_sentence_of_the_command_line(
    page: str, made: experiment_pb2.Report
) -> None:
    """The page has the same tables and sentences as the terminal."""
    text = " ".join(" ".join(parsed(page).itertext()).split())
    for table in (belief_table(made), *evidence_tables(made)):
        headings = [column.heading for column in table.columns]
        for cell in chain(headings, *(row.cells for row in table.rows)):
            assert " ".join(cell.split()) in text
    for section in sections(made):
        assert all(line in text for line in section.lines)
    for arm in made.arms:
        assert arm.arm in text


def test_the_terms_of_the_field_stand_beside_ours(page: str, made: experiment_pb2.Report) -> None:
    """In the terminal and on the page alike, so that a reader of other tools finds what they look for."""
    for text in (drawn(made), " ".join(parsed(page).itertext())):
        flat = " ".join(text.split())
        for term in (
            "sample ratio mismatch (SRM)",
            "P(best) (chance to win)",
            "expected loss (risk)",
            "relative lift (uplift)",
        ):
            assert flat.count(term) == 1


def test_a_page_draws_shares_means_and_posteriors(page: str) -> None:
    """It plots each metric's means over time, with each arm in each legend."""
    titles = [element.text for element in parsed(page).iter("h2")]
    assert titles[:5] == [
        "Shares over time",
        "Mean of click over time",
        "Mean of error over time",
        "Mean of spend over time",
        "Posteriors of click",
    ]
    drawings = list(parsed(page).iter("{http://www.w3.org/2000/svg}svg"))
    assert len(drawings) == 5
    for drawing in drawings:
        assert {"arm-0", "arm-1", "arm-2"} <= set(drawing.itertext())


def test_times_have_a_zone(page: str) -> None:
    """The footer and the axes of time name the zone."""
    zone = "(UTC|[+-][0-9]{2}:[0-9]{2})"
    assert re.search(rf"<footer>As of [0-9-]{{10}} [0-9:]{{5}} {zone}\.</footer>", page)
    assert re.search(rf">time, {zone}<", page)


def test_texts_are_escaped(made: experiment_pb2.Report) -> None:
    """Texts of the service are escaped, whatever they contain."""
    hostile = "<script>alert('x')</script>&\"]]>"
    changed = experiment_pb2.Report()
    changed.CopyFrom(made)
    changed.verdict.headline = hostile
    changed.notes.append(hostile)
    changed.experiment = hostile
    changed.unsaid.add(subjects=[hostile], explanation=hostile, metric=hostile, arms=[hostile])
    page = render_page(changed)
    assert "<script" not in page
    assert "".join(parsed(page).itertext()).count(hostile) >= 6


def test_plots_show_the_arms_with_the_largest_shares() -> None:
    """Plots are limited to them, and tables still have all arms."""
    text = render_page(report(n_arms=60))
    shares = next(parsed(text).iter("{http://www.w3.org/2000/svg}svg"))
    assert sum(each.startswith("arm-") for each in shares.itertext()) == MOST_ARMS
    assert f"The {MOST_ARMS} arms with the largest shares of 60." in text
    assert all(f">arm-{arm}<" in text for arm in range(60))


def test_an_empty_report_has_a_page() -> None:
    """A new experiment, without history or evidence, has a page."""
    page = render_page(experiment_pb2.Report(experiment="young", champion="a", reward_metric="click"))
    assert "young" in "".join(parsed(page).itertext())


@pytest.fixture
def name(shared_process: ServerProcess, shared_wire: Wire, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start an experiment with arms a and b, on the server that commands use."""
    monkeypatch.setenv("BANDIT_SERVER", shared_process.address)
    return shared_wire.running()


def test_the_command_writes_the_page(run: Run, name: str) -> None:
    """It prints the file's name; with --json the message still goes to standard output."""
    result = run("report", name, "--html", "page.html")
    assert (result.exit_code, result.stdout) == (0, "page.html is written\n")
    texts = set(parsed(Path("page.html").read_text()).itertext())
    assert {"a", "b", f"Report on {name}", "Shares over time", "Posteriors of click"} <= texts
    assert run("report", name, "--html", "page.html", "--json").stdout.startswith("{")


def test_a_page_that_can_t_be_written_is_one_line(run: Run, name: str) -> None:
    """A page that can't be written is an error of one line."""
    result = run("report", name, "--html", "missing/page.html")
    assert (result.exit_code, result.stderr) == (1, "error: missing/page.html: no such file or directory\n")


def test_without_the_plots_extra_one_line_names_the_package(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes before any call to a server."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("report", "ranker", "--html", "page.html")
    assert result.exit_code == 1
    assert result.stderr == "error: plots need matplotlib: pip install 'bandit-allocator[plots]'\n"


@pytest.mark.parametrize(
    "posterior",
    [
        evidence_pb2.Posterior(beta=evidence_pb2.BetaPosterior(alpha=3, beta=90)),
        evidence_pb2.Posterior(beta=evidence_pb2.BetaPosterior(alpha=0.5, beta=0.5)),
        evidence_pb2.Posterior(beta=evidence_pb2.BetaPosterior(alpha=1e7, beta=1e7)),
        evidence_pb2.Posterior(normal=evidence_pb2.NormalPosterior(mean=-4, sd=2)),
        evidence_pb2.Posterior(student_t=evidence_pb2.StudentTPosterior(mean=5, scale=0.1, df=2)),
        evidence_pb2.Posterior(gamma=evidence_pb2.GammaPosterior(shape=6, rate=3)),
    ],
)
def test_a_density_holds_all_but_the_tails(posterior: evidence_pb2.Posterior) -> None:
    """The drawn range has .998 of the probability."""
    values, densities = density_of(posterior)
    assert np.all(np.isfinite(densities))
    assert np.all(densities >= 0)
    assert float(densities.sum() * (values[1] - values[0])) == pytest.approx(0.998)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v1", "must be ARM=WEIGHT"),
        ("v1=x", "must be ARM=WEIGHT"),
        ("v1=1,v1=2", "names an arm twice"),
    ],
)
def test_a_split_by_hand_is_checked(run: Run, text: str, words: str) -> None:
    """A wrong --split is refused before any call to a server."""
    result = run("report", "ranker", "--split", text)
    assert result.exit_code == 2
    assert words in result.stderr
