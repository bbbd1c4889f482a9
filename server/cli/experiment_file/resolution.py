"""How finely the values of a metric count, in plain words."""

from collections.abc import Iterable

from bandit.metric import N_STEPS
from bandit.v1.experiment_pb2 import METRIC_KIND_REAL, Metric


def resolutions(metrics: Iterable[Metric]) -> list[str]:
    """A sentence for each metric of real values; those of whole numbers count as they are."""
    return [
        f"values of {metric.name} are kept as posted, and count in steps of "
        f"{(metric.maximum - metric.minimum) / N_STEPS:.3g}"
        for metric in metrics
        if metric.kind == METRIC_KIND_REAL
    ]
