"""Rates, percentiles, CPU per call, and ratios with their spread, from rounds of calls."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was measured in one round of calls.

    Attributes:
        seconds: Seconds from its first call to its last answer.
        cpu_seconds: CPU time of the server meanwhile.
        latencies: Seconds of each call, in the order of the answers.
        items_per_call: Decisions or rewards in one call.
        n_warm_up: Calls before the clock ran.
    """

    seconds: float
    cpu_seconds: float
    latencies: "array[float]"
    items_per_call: int
    n_warm_up: int

    @property
    def n_calls(self) -> int:
        """Calls while the clock ran."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.n_calls * self.items_per_call / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of several values and how far they spread.

    Attributes:
        middle: Their median.
        lower: Their first quartile.
        upper: Their third quartile.
    """

    middle: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value.

        >>> Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])
        Spread(middle=3.0, lower=2.0, upper=4.0)
        """
        return cls(middle=median(values), lower=percentile(values, 25), upper=percentile(values, 75))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Several rounds of one kind of call, taken together.

    Attributes:
        rate: Items per second, of each round.
        p50_ms: Half of the calls were answered within this many milliseconds, queueing for the server
            included.
        p95_ms: The same for 95 % of them.
        p99_ms: The same for 99 % of them.
        cpu_us_per_item: CPU time of the server, in microseconds per item.
        n_items: Items while the clock ran.
    """

    rate: Spread
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us_per_item: float
    n_items: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        """Return the figures of at least one round in which at least one call was answered."""
        latencies = sorted(chain.from_iterable(each.latencies for each in rounds))
        n_items = sum(each.n_calls * each.items_per_call for each in rounds)
        return cls(
            rate=Spread.of([each.rate for each in rounds]),
            p50_ms=percentile(latencies, 50) * 1e3,
            p95_ms=percentile(latencies, 95) * 1e3,
            p99_ms=percentile(latencies, 99) * 1e3,
            cpu_us_per_item=sum(each.cpu_seconds for each in rounds) * 1e6 / n_items,
            n_items=n_items,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A method against the echo, measured in turns.

    Attributes:
        title: The method called.
        setting: Under which conditions.
        measured: The figures of the method.
        echo: Those of the echo, from the rounds in between.
        rate_ratio: Items a second of the method over calls a second of the echo, of each pair of rounds.
        cpu_ratio: CPU time of an echo over that of an item: the ratio if only the server's CPU limited it.
        aim: What the design aims at, to be read next to the figures; empty without an aim.
    """

    title: str
    setting: str
    measured: Figures
    echo: Figures
    rate_ratio: Spread
    cpu_ratio: float
    aim: str

    @classmethod
    def of(
        cls, title: str, setting: str, pairs: Sequence[tuple[Round, Round]], aim: str = ""
    ) -> "Comparison":
        """Return the comparison of pairs of an echo's round and a method's."""
        echo = Figures.of([echo for echo, _ in pairs])
        measured = Figures.of([measured for _, measured in pairs])
        return cls(
            title=title,
            setting=setting,
            measured=measured,
            echo=echo,
            rate_ratio=Spread.of([measured.rate / echo.rate for echo, measured in pairs]),
            cpu_ratio=echo.cpu_us_per_item / max(measured.cpu_us_per_item, 1e-9),
            aim=aim,
        )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the others do not exceed, interpolated between the nearest two.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50)
    2.5
    """
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
