"""Reports on their way to the wire."""

from typing import Final

from bandit.decision import Basis
from bandit.v1 import experiment_pb2
from server.rpc.durations import to_timestamp
from server.rpc.experiment_messages import DIRECTIONS, STATES, to_epoch
from server.services.reporting import LEVEL, ArmReport, MetricReport, Report

DEFAULT_EPOCHS: Final = 200
MAX_EPOCHS: Final = 5_000


def to_report(report: Report) -> experiment_pb2.Report:
    """The message of a report."""
    record = report.record
    reward = record.experiment.metric(record.experiment.reward_metric)
    message = experiment_pb2.Report(
        experiment=record.name,
        state=STATES[record.state],
        report_time=to_timestamp(report.reported_at),
        champion=record.experiment.champion,
        winner=record.winner or "",
        reward_metric=reward.name,
        direction=DIRECTIONS[reward.direction],
        arms=[_to_arm(arm) for arm in report.arms],
        epochs=[to_epoch(epoch, record.arm_numbers) for epoch in report.epochs],
        n_epochs=report.n_epochs,
        notes=report.notes,
    )
    if record.started_at is not None:
        message.start_time.CopyFrom(to_timestamp(record.started_at))
    return message


def _to_arm(arm: ArmReport) -> experiment_pb2.ArmReport:
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
        ),
        metrics=[_to_metric(metric) for metric in arm.metrics],
        probability_best=arm.probability_best,
        expected_loss=arm.expected_loss,
    )


def _to_metric(metric: MetricReport) -> experiment_pb2.MetricReport:
    lower, upper = metric.interval
    return experiment_pb2.MetricReport(
        metric=metric.metric,
        outcomes=metric.evidence.n_outcomes,
        open_outcomes=metric.evidence.n_open,
        late_outcomes=metric.evidence.n_late,
        observations=metric.evidence.sums.n,
        mean=metric.mean,
        interval=experiment_pb2.Interval(
            lower=lower, upper=upper, level=LEVEL, kind=experiment_pb2.INTERVAL_KIND_POSTERIOR
        ),
    )
