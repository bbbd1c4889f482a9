"""Conversion of reports to messages."""

from collections.abc import Mapping
from typing import Final

from bandit.decision_id import Basis
from bandit.facts.units import HeavyUnit
from bandit.metric import Role
from bandit.number_text import exact
from bandit.v1 import evidence_pb2, experiment_pb2
from bandit.validation import Violation
from server.rpc.messages.evidence import (
    add_evidence,
    to_all_unsaid,
    to_outlook,
    to_posterior,
    to_sample_ratio,
    to_splits,
    to_verdict,
)
from server.rpc.messages.experiment import (
    ANALYSIS_UNITS,
    DIRECTIONS,
    ROLES,
    STATES,
    to_epoch,
    to_margin_message,
)
from server.rpc.messages.launch import to_launch
from server.rpc.messages.times import to_timestamp
from server.services.errors import InvalidInputError
from server.services.reports.values import LEVEL, ArmReport, MetricReport, Report, ReportRequest

DEFAULT_EPOCHS: Final = 200
MAX_EPOCHS: Final = 5_000
MAX_SPLITS: Final = 16
DEFAULT_BYTES: Final = 4 * 1024 * 1024
"""The default limit of gRPC clients."""
MAX_BYTES: Final = 256 * 1024 * 1024
_SHORTENED: Final = (
    "Shares and means over time are left out, since the report would be larger than the caller accepts: "
    "request fewer metrics, or raise max_bytes."
)
_LIFT_BOUNDS: Final = (-1.0, 10.0)


def to_report_request(request: experiment_pb2.GetReportRequest) -> ReportRequest:
    """Return the request in a message.

    Raises:
        InvalidInputError: A field is out of bounds.
    """
    violations = []
    if request.max_epochs < 0:
        violations.append(Violation("max_epochs", f"must be at least 0, got {request.max_epochs}"))
    if len(request.splits) > MAX_SPLITS:
        rule = f"must be at most {MAX_SPLITS} splits, got {len(request.splits)}"
        violations.append(Violation("splits", rule))
    if not _LIFT_BOUNDS[0] < request.lift <= _LIFT_BOUNDS[1]:
        rule = f"must be above -1 and at most {exact(_LIFT_BOUNDS[1])}, got {exact(request.lift)}"
        violations.append(Violation("lift", rule))
    if not 0 <= request.max_bytes <= MAX_BYTES:
        violations.append(Violation("max_bytes", f"must be in [0, {MAX_BYTES}], got {request.max_bytes}"))
    if violations:
        raise InvalidInputError(violations)
    return ReportRequest(
        max_epochs=min(request.max_epochs or DEFAULT_EPOCHS, MAX_EPOCHS),
        splits=[dict(split.weights) for split in request.splits],
        lift=request.lift or None,
        metrics=tuple(request.metrics),
    )


def to_bytes(report: Report, max_bytes: int) -> bytes:
    """Serialise the report in at most `max_bytes` (0: `DEFAULT_BYTES`).

    A larger one loses most of its history and its earlier looks, and gets a note about that.

    Raises:
        InvalidInputError: It is still too large.
    """
    max_bytes = max_bytes or DEFAULT_BYTES
    message = to_report(report)
    if message.ByteSize() > max_bytes:
        _shorten(message)
    n_bytes = message.ByteSize()
    if n_bytes > max_bytes:
        raise InvalidInputError.of(
            "max_bytes",
            f"the report has {n_bytes:,} bytes, but at most {max_bytes:,} were requested: name fewer "
            f"`metrics`, or raise max_bytes (up to {MAX_BYTES:,}) and the client's "
            "grpc.max_receive_message_length",
        )
    return message.SerializeToString()


def _shorten(message: experiment_pb2.Report) -> None:
    """Keep only the first and the last epoch, and no earlier looks."""
    del message.epochs[1 : max(len(message.epochs) - 1, 1)]
    for arm in message.arms:
        for metric in arm.metrics:
            metric.ClearField("looks")
    message.notes.append(_SHORTENED)


def to_report(report: Report) -> experiment_pb2.Report:
    """Return the message of a report."""
    record = report.record
    reward = record.experiment.metric(record.experiment.reward_metric)
    arm_ids = {number: arm_id for arm_id, number in record.arm_numbers.items()}
    message = experiment_pb2.Report(
        experiment=record.name,
        state=STATES[record.state],
        report_time=to_timestamp(report.reported_at),
        champion=record.experiment.champion,
        winner=record.winner or "",
        reward_metric=reward.name,
        direction=DIRECTIONS[reward.direction],
        arms=[_to_arm(arm, report) for arm in report.arms],
        epochs=[to_epoch(epoch, record.arm_numbers) for epoch in report.epochs],
        n_epochs=report.n_epochs,
        notes=report.notes,
        hints=report.hints,
        sample_ratio=to_sample_ratio(report.evidence.assessment.sample_ratio, arm_ids),
        splits=to_splits(report.evidence, arm_ids),
        verdict=to_verdict(report.evidence.ruling, report.verdict, arm_ids),
        outlook=to_outlook(report.evidence.outlook, report.outlook),
        unsaid=to_all_unsaid(report.evidence.assessment, arm_ids, report.metrics),
        uncounted_decisions=report.n_uncounted,
        launch=None if report.launch is None else to_launch(record, report.launch),
        analysis_unit=ANALYSIS_UNITS[record.experiment.analysis_unit],
        heavy_units=[_to_heavy_unit(each, arm_ids) for each in report.heavy],
    )
    if record.started_at is not None:
        message.start_time.CopyFrom(to_timestamp(record.started_at))
    return message


def _to_heavy_unit(heavy: HeavyUnit, arm_ids: Mapping[int, str]) -> experiment_pb2.HeavyUnit:
    return experiment_pb2.HeavyUnit(
        mark="" if heavy.mark is None else heavy.mark.hex(),
        decisions=heavy.n_decisions,
        share=heavy.share,
        group=heavy.group,
        arm="" if heavy.arm is None else arm_ids[heavy.arm],
    )


def _to_arm(arm: ArmReport, report: Report) -> experiment_pb2.ArmReport:
    number = report.record.arm_numbers[arm.arm]
    return experiment_pb2.ArmReport(
        arm=arm.arm,
        share=arm.share,
        out_of_service=arm.is_out_of_service,
        warming_up=arm.is_warming_up,
        decisions=experiment_pb2.DecisionCounts(
            policy=arm.decisions[Basis.POLICY],
            restricted=arm.decisions[Basis.RESTRICTED],
            fallback=arm.decisions[Basis.FALLBACK],
            unconfirmed=arm.decisions[Basis.UNCONFIRMED],
            shadow=arm.decisions[Basis.SHADOW],
        ),
        metrics=[_to_metric(metric, number, report) for metric in arm.metrics],
        probability_best=arm.probability_best,
        expected_loss=arm.expected_loss,
        units=arm.n_units,
    )


def _to_metric(metric: MetricReport, arm: int, report: Report) -> experiment_pb2.MetricReport:
    lower, upper = metric.interval
    assessment = report.evidence.assessment
    evidence = assessment.others.get(metric.metric, assessment.reward)
    message = experiment_pb2.MetricReport(
        metric=metric.metric,
        outcomes=metric.observations.n_outcomes,
        open_outcomes=metric.observations.n_open,
        late_outcomes=metric.observations.n_late,
        observations=metric.observations.sums.n,
        mean=metric.mean,
        guardrail=metric.role is Role.GUARDRAIL,
        role=ROLES[metric.role],
        worse_by=to_margin_message(metric.worse_by),
        posterior=to_posterior(metric.belief),
        interval=evidence_pb2.Interval(
            lower=lower, upper=upper, level=LEVEL, kind=evidence_pb2.INTERVAL_KIND_POSTERIOR
        ),
    )
    champion = report.record.experiment.champion
    add_evidence(message, evidence, arm, champion, is_alarming=assessment.is_alarming)
    return message
