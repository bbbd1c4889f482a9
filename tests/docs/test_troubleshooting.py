"""`troubleshooting.md` explains every log event and error reason of the server, and no removed ones."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.emitted import ANYTHING, Source, UnresolvedError

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "server" / "docs"
OPERATING: Final = (DOCS / "operating.md").read_text()
TROUBLESHOOTING: Final = (DOCS / "troubleshooting.md").read_text()
WIRE: Final = (DOCS / "wire.md").read_text()
SOURCE: Final = Source.below(ROOT / "server")

NEVER_LOGGED: Final = {"clock.began"}
"""A start is logged as `clock.unsettled`, and only if its time is far from the last write."""

NEVER_SENT: Final = {"UNKNOWN"}
"""The reason of the base class, which every error replaces."""

METRIC: Final = re.compile(r"\b(?:bandit|grpc_server)_[a-z_]+\b")
NO_METRICS: Final = {"bandit_allocator"}
OF_A_HISTOGRAM: Final = re.compile(r"_(bucket|sum|count)$")


def section(page: str, title: str) -> str:
    """Return the text below a heading of the second level, up to the next one."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def entries(text: str) -> list[str]:
    """Return the code in the first column of the tables in a text."""
    return [entry for first, *_ in rows(text) for entry in re.findall(r"`([^`]+)`", first)]


def test_every_log_event_has_an_entry() -> None:
    """Each event that a server can log has one entry, and no entry is for a removed event."""
    assert sorted(entries(section(TROUBLESHOOTING, "Log events"))) == sorted(
        SOURCE.find_events().keys() - NEVER_LOGGED
    )


def test_log_levels_are_correct() -> None:
    """The level in the row of an event is one that the event is logged with."""
    events = SOURCE.find_events()
    table = [row for row in rows(section(TROUBLESHOOTING, "Log events")) if row[0].startswith("`")]
    wrong = [row[:2] for row in table if not set(row[1].split(", ")) <= events[row[0].strip("`")]]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [section(TROUBLESHOOTING, "Error reasons"), section(WIRE, "Errors")],
    ids=["troubleshooting", "wire"],
)
def test_every_error_reason_has_an_entry(text: str) -> None:
    """Each reason of an error has one entry on both pages, and no entry is for a removed reason."""
    assert sorted(entries(text)) == sorted(SOURCE.find_reasons() - NEVER_SENT)


def test_every_alert_has_an_entry() -> None:
    """Each alerting rule of `operating.md` has one entry, and no entry is for a removed rule."""
    rules = re.findall(r"^ *- alert: (\w+)$", OPERATING, re.MULTILINE)
    assert rules
    assert sorted(entries(section(TROUBLESHOOTING, "Alerts"))) == sorted(rules)


def test_quoted_messages_exist() -> None:
    """Each start-up error quoted in the page can come from the source."""
    quoted = entries(section(TROUBLESHOOTING, "Start-up errors"))
    assert quoted
    texts = SOURCE.find_texts()
    patterns = {message: ".*".join(map(re.escape, message.split(ANYTHING))) for message in quoted}
    unknown = [
        message
        for message, pattern in patterns.items()
        if not any(re.search(pattern, text, re.DOTALL) for text in texts)
    ]
    assert unknown == []


def test_every_metric_is_listed() -> None:
    """The table of metrics lists exactly the metrics of a scrape."""
    assert sorted(entries(section(OPERATING, "Metrics"))) == sorted(SOURCE.find_metrics())


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_named_metrics_exist(page: Path) -> None:
    """Every metric named in a page, in text or in a query, exists."""
    served = SOURCE.find_metrics()
    named = set(METRIC.findall(page.read_text())) - NO_METRICS
    assert {
        name for name in named if name not in served and OF_A_HISTOGRAM.sub("", name) not in served
    } == set()


def test_collectors_find_indirect_events_and_reasons() -> None:
    """Events in conditions, enums, parameters and logger aliases, and reasons of functions, are found."""
    events = SOURCE.find_events()
    assert events["server.waiting"] == {"info"}
    assert events["access.open"] == {"info", "warning"}
    assert events["epoch.failed"] == {"error"}
    assert {"clock.doubted", "runs.wait_for_readers", "library.said"} <= events.keys()
    assert {"INVALID_INPUT", "INTERNAL", "RATE_LIMITED"} <= SOURCE.find_reasons()
    assert {"bandit_epoch", "bandit_decisions_total", "bandit_commit_seconds"} <= SOURCE.find_metrics()


@pytest.mark.parametrize(
    "text",
    ["log.info('store.' + name)", "log.info(name)", "log.info('no event')", "Failure(code, text, why)"],
)
def test_an_unresolved_event_is_an_error(text: str) -> None:
    """A call that computes its event or reason fails the tests, instead of being ignored."""
    source = Source({"made_up.py": f"def note(name, why):\n    {text}\n"})
    with pytest.raises(UnresolvedError, match=r"made_up.py:2: "):
        source.find_events() or source.find_reasons()
