"""The resolution at which values of a metric are counted, in words."""

from collections.abc import Iterable

from bandit.metric import N_STEPS
from bandit.v1.experiment_pb2 import METRIC_KIND_REAL, Metric


def resolutions(metrics: Iterable[Metric]) -> list[str]:
    """Return a sentence for each real-valued metric; whole numbers are counted exactly."""
    return [
        f"values of {metric.name} are stored as posted and counted in steps of "
        f"{(metric.maximum - metric.minimum) / N_STEPS:.3g}"
        for metric in metrics
        if metric.kind == METRIC_KIND_REAL
    ]
