"""Prometheus metrics of launches: where each challenger is, and what keeps it from moving."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from bandit.launch.gates import Look
from server.app.metrics.series_limit import SeriesLimit
from server.app.wiring import Services


class LaunchCollector:
    """Collects launches when Prometheus scrapes; holds, gates and claims on the server that looks alone.

    Args:
        services: The services whose state it is.
        max_series: How many combinations of experiment and arm a metric may have.
    """

    def __init__(self, services: Services, *, max_series: int) -> None:
        self._services = services
        self._series = SeriesLimit(max_series)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families for Prometheus."""
        yield self._states()
        yield from self._looks()
        yield from self._claims()
        actions = CounterMetricFamily(
            "bandit_launch_actions", "Changes of launches made by this server by itself."
        )
        actions.add_metric([], self._services.controller.n_actions)
        yield actions

    def _states(self) -> Metric:
        family = GaugeMetricFamily(
            "bandit_launch_arm",
            "1 for the state and step that an arm of a launch is in.",
            labels=("experiment", "arm", "state", "step"),
        )
        for live in self._services.snapshot:
            record = live.record
            for arm_id, arm in {} if record.launch is None else record.launch.arms.items():
                if self._series.admits((record.number, record.arm_numbers[arm_id]), record):
                    step = "" if arm.current is None else arm.current.label
                    family.add_metric([record.name, arm_id, arm.state, step], 1)
        return family

    def _looks(self) -> Iterator[Metric]:
        holds = GaugeMetricFamily(
            "bandit_launch_hold",
            "1 for each cause that keeps an arm of a launch from moving.",
            labels=("experiment", "arm", "cause", "metric"),
        )
        figures = GaugeMetricFamily(
            "bandit_launch_gate_figure",
            "How much there is of what an arm's step asks for; durations in seconds.",
            labels=("experiment", "arm", "gate"),
        )
        thresholds = GaugeMetricFamily(
            "bandit_launch_gate_threshold",
            "How much of it opens the gate.",
            labels=("experiment", "arm", "gate"),
        )
        for name, arm_id, look in self._looked_at():
            for hold in look.holds(arm_id):
                holds.add_metric([name, arm_id, hold.cause, hold.metric], 1)
            for gate in look.gates(arm_id):
                figures.add_metric([name, arm_id, gate.name], gate.figure)
                thresholds.add_metric([name, arm_id, gate.name], gate.threshold)
        yield from (holds, figures, thresholds)

    def _claims(self) -> Iterator[Metric]:
        labels = ("experiment", "arm", "claim", "metric")
        values = GaugeMetricFamily(
            "bandit_launch_log_e_value",
            "Natural logarithm of the e-value of a claim about an arm of a launch.",
            labels=labels,
        )
        levels = GaugeMetricFamily(
            "bandit_launch_log_level",
            "Natural logarithm of the e-value at which the claim is established.",
            labels=labels,
        )
        for name, arm_id, look in self._looked_at():
            for claim in look.claims.get(arm_id, ()):
                if claim.log_e_value is not None and claim.log_level is not None:
                    series = [name, arm_id, "signal_over" if claim.is_held else claim.kind, claim.metric]
                    values.add_metric(series, claim.log_e_value)
                    levels.add_metric(series, claim.log_level)
        yield from (values, levels)

    def _looked_at(self) -> Iterator[tuple[str, str, Look]]:
        """Yield the experiment, arm and look of each arm that this server looks at, within the limit."""
        for number, look in list(self._services.controller.looks.items()):
            live = self._services.snapshot.find_live(number)
            if live is None:
                continue
            for arm_id in look.launching.launch.arms:
                if self._series.admits((number, live.record.arm_numbers[arm_id]), live.record):
                    yield live.record.name, arm_id, look
