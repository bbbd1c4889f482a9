"""Counters and histograms of calls, named by the gRPC Prometheus convention.

Plain integers, read at each scrape: a counter of the Prometheus library would cost more than Choose itself.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Final

import grpc
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper ends of the duration buckets, in seconds."""

_CODE_NAMES: Final = {
    code.value[0]: "".join(part.title() for part in code.name.split("_")) for code in grpc.StatusCode
} | {0: "OK", 1: "Canceled"}
"""Names of codes in the convention, which follows Go."""

_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


class Histogram:
    """Counts of observations by bucket.

    Args:
        buckets: Upper ends, ascending; an unbounded one is added.
    """

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: tuple[float, ...] = BUCKETS) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.total = 0.0

    def observe(self, value: float, n_times: int = 1) -> None:
        """Count an observation that was made once, or several times."""
        self.counts[bisect_left(self.buckets, value)] += n_times
        self.total += value * n_times

    def cumulative(self) -> list[tuple[str, float]]:
        """Return pairs of upper end and number of observations up to it, as Prometheus expects."""
        rows: list[tuple[str, float]] = []
        running = 0
        for end, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            running += count
            rows.append((end, running))
        return rows


class MethodMeasurements:
    """The measurements of one method.

    Args:
        service: Full name of the service, such as `bandit.v1.BanditService`.
        method: Name of the method.
    """

    __slots__ = ("_codes", "_durations", "method", "n_in_flight", "n_started", "service")

    grpc_type = "unary"
    """The convention's word for methods of this kind."""

    def __init__(self, service: str, method: str) -> None:
        self.service = service
        self.method = method
        self.n_started = 0
        self.n_in_flight = 0
        self._codes: Counter[int] = Counter()
        self._durations = Histogram()

    def observe(self, code: int, seconds: float) -> None:
        """Count a call that ended with `code` after `seconds`."""
        self.observe_each(code, seconds, 1)

    def observe_each(self, code: int, seconds: float, n_calls: int) -> None:
        """Count calls that ended with `code`, each after `seconds`."""
        self._codes[code] += n_calls
        self._durations.observe(seconds, n_calls)

    @property
    def labels(self) -> list[str]:
        """Values of the convention's labels."""
        return [self.grpc_type, self.service, self.method]

    @property
    def codes(self) -> list[tuple[str, int]]:
        """Pairs of code name and number of calls that ended with it."""
        return [(_CODE_NAMES[code], count) for code, count in sorted(self._codes.items())]

    @property
    def n_received(self) -> int:
        """Number of requests."""
        return self.n_started

    @property
    def n_sent(self) -> int:
        """Number of responses."""
        return self._codes[0]

    @property
    def durations(self) -> Histogram:
        """Durations of calls, in seconds."""
        return self._durations


class StreamMeasurements(MethodMeasurements):
    """The measurements of a method that answers streams of messages: codes and durations are of streams.

    Attributes:
        n_messages_received: Number of messages received.
        n_messages_sent: Number of messages sent.
    """

    __slots__ = ("n_messages_received", "n_messages_sent")

    grpc_type = "bidi_stream"

    def __init__(self, service: str, method: str) -> None:
        super().__init__(service, method)
        self.n_messages_received = 0
        self.n_messages_sent = 0

    @property
    def n_received(self) -> int:
        """Number of requests."""
        return self.n_messages_received

    @property
    def n_sent(self) -> int:
        """Number of responses."""
        return self.n_messages_sent


class WatchMeasurements(MethodMeasurements):
    """The measurements of a method that answers a request with a stream: codes and durations are of streams.

    Attributes:
        n_messages_sent: Number of messages sent.
    """

    __slots__ = ("n_messages_sent",)

    grpc_type = "server_stream"

    def __init__(self, service: str, method: str) -> None:
        super().__init__(service, method)
        self.n_messages_sent = 0

    @property
    def n_sent(self) -> int:
        """Number of responses."""
        return self.n_messages_sent


class CallCollector:
    """A Prometheus collector for the measurements of all methods.

    Args:
        methods: The measurements.
    """

    def __init__(self, methods: list[MethodMeasurements]) -> None:
        self._methods = methods

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        started = CounterMetricFamily("grpc_server_started", "Calls that began.", labels=_LABELS)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls that ended, by code.", labels=(*_LABELS, "grpc_code")
        )
        received = CounterMetricFamily("grpc_server_msg_received", "Requests received.", labels=_LABELS)
        sent = CounterMetricFamily("grpc_server_msg_sent", "Responses sent.", labels=_LABELS)
        in_flight = GaugeMetricFamily("grpc_server_in_flight", "Calls that have not ended.", labels=_LABELS)
        seconds = HistogramMetricFamily(
            "grpc_server_handling_seconds", "How long calls took, in seconds.", labels=_LABELS
        )
        for method in self._methods:
            started.add_metric(method.labels, method.n_started)
            received.add_metric(method.labels, method.n_received)
            sent.add_metric(method.labels, method.n_sent)
            in_flight.add_metric(method.labels, method.n_in_flight)
            for code, count in method.codes:
                handled.add_metric([*method.labels, code], count)
            seconds.add_metric(method.labels, method.durations.cumulative(), method.durations.total)
        yield from (started, handled, received, sent, in_flight, seconds)
