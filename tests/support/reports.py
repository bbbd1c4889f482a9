"""Reports made from small facts, and what must hold for every report."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from google.protobuf.message import Message
from rich.console import Console

from bandit.experiment import Experiment
from bandit.facts import Epoch, Facts
from bandit.facts.units import UnitFacts
from bandit.metric import Direction, Metric
from bandit.v1 import experiment_pb2
from server.cli.report_view.terminal import print_report
from server.rpc.messages.report import to_report
from server.services.reports.build import make_report
from server.services.reports.values import Report, ReportRequest
from server.store.records import ExperimentFacts, ExperimentRecord, ReportFacts, State
from tests.bandit.builders import MINUTE, NOTHING, START

CLICK = Metric(name="click", window=MINUTE, default_value=0.0)
ERROR = Metric(
    name="error", window=MINUTE, default_value=0.0, is_guardrail=True, direction=Direction.MINIMIZE
)
EVERYTHING = ReportRequest(max_epochs=200)


def report_on(
    experiment: Experiment,
    epochs: Sequence[Epoch],
    facts: Facts = NOTHING,
    *,
    now: datetime,
    groups: Mapping[int, int] | None = None,
    request: ReportRequest = EVERYTHING,
) -> experiment_pb2.Report:
    """Return a report's message, made as the server makes it; arms and metrics are numbered in order."""
    return to_report(made_of(experiment, epochs, facts, now=now, groups=groups, request=request))


def made_of(
    experiment: Experiment,
    epochs: Sequence[Epoch],
    facts: Facts = NOTHING,
    *,
    now: datetime,
    groups: Mapping[int, int] | None = None,
    request: ReportRequest = EVERYTHING,
) -> Report:
    """Return the report as a value."""
    draft = ExperimentRecord.draft(experiment, START)
    record = replace(draft, number=1, state=State.RUNNING, started_at=START)
    units = UnitFacts(facts=facts, n_decisions=0, groups={} if groups is None else groups)
    found = ExperimentFacts(record, tuple(epochs), facts)
    known = ReportFacts(found=found, declarations=[experiment], units=units)
    return make_report(known, request, timedelta(), now)


def numbers_in(message: Message) -> Iterator[tuple[str, float]]:
    """Return every floating-point number in a message, with the name of its field."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = [each for each in value.values() if isinstance(each, float | Message)]
        for each in values:
            if isinstance(each, Message):
                yield from numbers_in(each)
            elif isinstance(each, float):
                yield field.name, each


def drawn(report: experiment_pb2.Report) -> str:
    """Return the report as `bandit-server report` prints it into a pipe."""
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=100, markup=False, highlight=False))
    return stream.getvalue()


def require_sane(report: experiment_pb2.Report) -> None:
    """Require finite numbers, estimates within their intervals, valid probabilities, and text that fits."""
    assert [name for name, number in numbers_in(report) if not math.isfinite(number)] == []
    for metric in (metric for arm in report.arms for metric in arm.metrics):
        for estimate in (metric.estimate, metric.comparison.difference):
            assert estimate.interval.lower <= estimate.value <= estimate.interval.upper
        for claim in (metric.comparison.better, metric.comparison.worse):
            assert 0 <= claim.p_value <= 1
    text = drawn(report)
    assert all(len(line) <= 100 for line in text.splitlines()[1:])
    words = text.lower().replace("/", " ").replace("(", " ").split()
    assert not {"nan", "inf", "-inf", "+inf", "nan%", "inf%"} & set(words)
    assert report.verdict.headline
    assert report.outlook.text
