"""Prometheus metrics of experiments, ledger and snapshot. Labels contain no units and no decisions."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from server.app.metrics.http_server import serve_registry
from server.app.metrics.launches import LaunchCollector
from server.app.metrics.series_limit import OTHER, SeriesLimit
from server.app.wiring import Services
from server.http2.exchange import RequestFault
from server.http2.sockets.listener import SHORT, Listener
from server.rpc.fast_lane.lane import FastLane
from server.rpc.fast_lane.port import FastPort
from server.rpc.floods.offenders import Offenders
from server.rpc.floods.unsent_requests import UnsentRequests
from server.rpc.guard.metrics import CallCollector, Histogram
from server.rpc.server import RpcServer
from server.services.runtime.service_time import ServiceClock
from server.services.webhooks.dispatcher import WebhookDispatcher
from server.store.records import ExperimentRecord

_COMMIT_ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)


class ServiceCollector:
    """Collects the state of the services when Prometheus scrapes.

    Args:
        services: The services whose state it is.
        clock: Service time, and whether it is in doubt.
        webhooks: Deliver events.
        convergence: How soon a change made by one replica is known to all.
        max_series: How many combinations of experiment and arm a metric may have.
    """

    def __init__(
        self,
        services: Services,
        clock: ServiceClock,
        webhooks: WebhookDispatcher,
        *,
        convergence: timedelta,
        max_series: int,
    ) -> None:
        self._webhooks = webhooks
        self._services = services
        self._clock = clock
        self._convergence = convergence
        self._commit_seconds = Histogram()
        self._commit_rows = Histogram(_COMMIT_ROWS)
        self._decision_series = SeriesLimit(max_series)
        self._outcome_series = SeriesLimit(max_series)
        self._epoch_series = SeriesLimit(max_series)
        self._launches = LaunchCollector(services, max_series=max_series)
        services.queue.observers.append(self._observe_commit)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families for Prometheus."""
        yield self._decisions()
        yield self._outcomes()
        yield self._epochs()
        yield from self._store_families()
        yield from self._clock_families()
        yield from self._work_families()
        yield from self._launches.collect()
        yield from self._webhook_families()
        yield _histogram("bandit_commit_seconds", "How long commits took, in seconds.", self._commit_seconds)
        yield _histogram("bandit_commit_outcomes", "How many outcomes a commit held.", self._commit_rows)

    def _store_families(self) -> Iterator[Metric]:
        yield _gauge(
            "bandit_reward_queue_rows", "Outcomes waiting for a commit.", self._services.queue.n_rows
        )
        yield _gauge(
            "bandit_snapshot_age_seconds",
            "Seconds since the store last confirmed the snapshot that Choose reads.",
            self._services.snapshot.age.total_seconds(),
        )
        yield _gauge(
            "bandit_convergence_bound_seconds",
            "Seconds within which a change made by one replica has reached all that reach the store.",
            self._convergence.total_seconds(),
        )
        yield _gauge(
            "bandit_store_up",
            "1 if the store answered the last time.",
            int(not self._services.sync.is_store_away),
        )
        wal_bytes = self._services.store.wal_bytes
        if wal_bytes is not None:
            text = "Bytes of SQLite's write-ahead log; it grows while a read is held open."
            yield _gauge("bandit_wal_bytes", text, wal_bytes)

    def _webhook_families(self) -> Iterator[Metric]:
        labels = ["endpoint"]
        delivered = CounterMetricFamily(
            "bandit_webhook_delivered", "Events that a webhook endpoint has taken.", labels=labels
        )
        failed = CounterMetricFamily(
            "bandit_webhook_failed", "Attempts to post an event that failed.", labels=labels
        )
        dead = CounterMetricFamily(
            "bandit_webhook_dead", "Events that were given up for a webhook endpoint.", labels=labels
        )
        webhooks = self._webhooks
        for family, counts in (
            (delivered, webhooks.n_delivered),
            (failed, webhooks.n_failed),
            (dead, webhooks.n_dead),
        ):
            for endpoint, count in sorted(counts.items()):
                family.add_metric([endpoint], count)
            yield family

    def _work_families(self) -> Iterator[Metric]:
        yield _counter(
            "bandit_epochs_begun", "Epochs begun by this server.", self._services.allocator.n_epochs
        )
        yield _counter(
            "bandit_purged_rows",
            "Rows of the reward log purged by this server.",
            self._services.purger.n_rows,
        )
        yield _counter(
            "bandit_sealed_epochs", "Epochs sealed by this server.", self._services.purger.n_epochs
        )
        yield _counter(
            "bandit_units_dropped",
            "Decisions whose unit was not recorded, since too many waited for the store.",
            self._services.counter.units.n_dropped,
        )
        yield _gauge(
            "bandit_controller_lease_held",
            "1 while this server holds the controller's lease: it alone acts for launches.",
            int(self._services.lease.held() is not None),
        )
        yield _counter(
            "bandit_controller_takeovers",
            "How often this server took the controller's lease from a server that had not released it.",
            self._services.lease.n_takeovers,
        )

    def _observe_commit(self, n_rows: int, seconds: float) -> None:
        self._commit_rows.observe(n_rows)
        self._commit_seconds.observe(seconds)

    def _clock_families(self) -> Iterator[Metric]:
        clock, record = self._clock, self._clock.record
        yield _gauge(
            "bandit_clock_in_doubt",
            "1 if the clock's reading differs from service time: nothing new that depends on it is begun.",
            int(clock.is_doubted),
        )
        yield _gauge(
            "bandit_clock_is_settled",
            "0 for a while after a start or jump far ahead of what the database holds.",
            int(clock.is_settled),
        )
        yield _gauge(
            "bandit_clock_offset_seconds",
            "The clock's reading minus service time.",
            clock.offset.total_seconds(),
        )
        if record is not None:
            text = "Seconds that servers of this database have run without doubt about the clock."
            yield _gauge("bandit_clock_trusted_seconds", text, record.running.total_seconds())

    def _decisions(self) -> Metric:
        family = CounterMetricFamily(
            "bandit_decisions", "Decisions flushed.", labels=("experiment", "arm", "basis")
        )
        others: Counter[str] = Counter()
        for (number, arm, basis), count in list(self._services.counter.totals.items()):
            record = self._record(number)
            if self._decision_series.admits((number, arm), record):
                if record is not None:
                    family.add_metric([record.name, record.arm_id(arm), basis.name.lower()], count)
            else:
                others[basis.name.lower()] += count
        for name, count in others.items():
            family.add_metric([OTHER, OTHER, name], count)
        return family

    def _outcomes(self) -> Metric:
        family = CounterMetricFamily(
            "bandit_outcomes",
            "Outcomes answered, by result.",
            labels=("experiment", "arm", "metric", "result"),
        )
        others: Counter[str] = Counter()
        for (number, arm, metric, result), count in list(self._services.queue.results.items()):
            record = self._record(number)
            if self._outcome_series.admits((number, arm, metric), record):
                if record is not None:
                    labels = [record.name, record.arm_id(arm), record.metric_name(metric), result]
                    family.add_metric(labels, count)
            else:
                others[result] += count
        for result, count in others.items():
            family.add_metric([OTHER, OTHER, OTHER, result], count)
        return family

    def _epochs(self) -> Metric:
        family = GaugeMetricFamily("bandit_epoch", "Number of the epoch in force.", labels=("experiment",))
        for live in self._services.snapshot:
            if live.epoch is not None and self._epoch_series.admits((live.record.number,), live.record):
                family.add_metric([live.record.name], live.epoch.number)
        return family

    def _record(self, number: int) -> ExperimentRecord | None:
        live = self._services.snapshot.find_live(number)
        return None if live is None else live.record


class ConnectionCollector:
    """Collects calls without requests, and their connections, when Prometheus scrapes.

    Args:
        unsent_requests: Calls waiting for their requests.
        offenders: Connections that were closed.
    """

    def __init__(self, unsent_requests: UnsentRequests, offenders: Offenders) -> None:
        self._unsent_requests = unsent_requests
        self._offenders = offenders

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families for Prometheus."""
        text = "Calls whose request has not arrived."
        yield _gauge("bandit_incomplete_calls", text, self._unsent_requests.n_waiting)
        ended = CounterMetricFamily(
            "bandit_incomplete_calls_ended",
            "Calls ended because their request took too long, or too many waited for theirs.",
            labels=("why",),
        )
        ended.add_metric(["late"], self._unsent_requests.n_late)
        ended.add_metric(["many"], self._unsent_requests.n_refused)
        yield ended
        yield _counter(
            "bandit_connections_closed",
            "Connections closed because too many of their calls waited for requests.",
            self._offenders.n_closed,
        )
        yield _counter(
            "bandit_addresses_slowed",
            "How often the connections of an address were slowed down.",
            self._offenders.n_slowed,
        )


class FastLaneCollector:
    """Collects the connections of the fast lane, and requests that it refused, when Prometheus scrapes.

    Args:
        listener: Accepts the connections.
        lane: Refuses the requests.
    """

    def __init__(self, listener: Listener, lane: FastLane) -> None:
        self._listener = listener
        self._lane = lane

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families for Prometheus."""
        listener = self._listener
        text = "Open connections of the fast lane."
        yield _gauge("bandit_fast_lane_connections", text, listener.counts.n_open)
        text = "Connections to the fast lane that were accepted, also those that were closed at once."
        yield _counter("bandit_fast_lane_connections_accepted", text, listener.n_accepted)
        text = "Connections to the fast lane that were closed at once, by reason."
        refused = CounterMetricFamily("bandit_fast_lane_connections_refused", text, labels=("reason",))
        for refusal, count in listener.counts.n_refused.items():
            refused.add_metric([refusal], count)
        refused.add_metric([SHORT], listener.n_short)
        yield refused
        text = "Connections of the fast lane that were cut off, by reason."
        aborted = CounterMetricFamily("bandit_fast_lane_connections_aborted", text, labels=("reason",))
        for abort, count in listener.n_aborted.items():
            aborted.add_metric([abort], count)
        yield aborted
        text = "Bytes of responses that clients of the fast lane had not read a moment ago."
        yield _gauge("bandit_fast_lane_unsent_bytes", text, listener.n_unsent)
        text = "Calls on the fast lane that were refused before any handler had them, by reason."
        calls = CounterMetricFamily("bandit_fast_lane_calls_refused", text, labels=("reason",))
        for fault in RequestFault:
            calls.add_metric([fault.name.lower()], self._lane.faults[fault])
        yield calls


def serve_metrics(
    address: str, rpc: RpcServer, services: ServiceCollector, fast_port: FastPort | None = None
) -> int:
    """Answer scrapes over HTTP in separate threads, as long as the process lives; return the port.

    Raises:
        ListenError: It can't be done at every address of the name.
    """
    registry = CollectorRegistry()
    registry.register(CallCollector(rpc.measurements))
    registry.register(ConnectionCollector(rpc.unsent_requests, rpc.offenders))
    registry.register(services)
    if fast_port is not None:
        registry.register(FastLaneCollector(fast_port.listener, fast_port.lane))
    return serve_registry(address, registry)


def _counter(name: str, text: str, count: float) -> Metric:
    family = CounterMetricFamily(name, text)
    family.add_metric([], count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
