"""Rates, percentiles and ratios, on rounds with known figures."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness.timings import Comparison, Figures, Round, percentile


def make_round(n_calls: int, *, seconds: float = 1.0, cpu_seconds: float = 0.5, items: int = 1) -> Round:
    """Return a round whose calls took 1 ms, 2 ms and so on."""
    latencies = array("d", [(number + 1) / 1000 for number in range(n_calls)])
    return Round(
        seconds=seconds, cpu_seconds=cpu_seconds, latencies=latencies, items_per_call=items, n_warm_up=0
    )


@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1), percent=st.floats(0, 100))
def test_percentiles_lie_among_the_values(values: list[float], percent: float) -> None:
    """No percentile is below the least value or above the greatest, up to rounding."""
    tolerance = 1e-9 * max(map(abs, values))
    assert min(values) - tolerance <= percentile(values, percent) <= max(values) + tolerance


def test_rates_count_items_and_not_calls() -> None:
    """Ten calls of a thousand in half a second are 20,000 items a second."""
    assert make_round(10, seconds=0.5, items=1000).rate == pytest.approx(20_000)


def test_figures_pool_the_calls_of_all_rounds() -> None:
    """Latencies and CPU time are those of all calls together; the rate is the median round's."""
    figures = Figures.of([make_round(100), make_round(100), make_round(300)])
    assert figures.n_items == 500
    assert figures.rate.middle == pytest.approx(100)
    assert figures.cpu_us_per_item == pytest.approx(1.5e6 / 500)
    assert figures.p99_ms == pytest.approx(295.01)


def test_the_ratio_is_that_of_neighbouring_rounds() -> None:
    """A machine that slows down for a while slows both rounds, and the ratio stays."""
    pairs = [
        (make_round(100), make_round(80)),
        (make_round(10), make_round(8)),
        (make_round(50), make_round(40)),
    ]
    comparison = Comparison.of("Choose", "here", pairs)
    spread = comparison.rate_ratio
    assert [spread.lower, spread.middle, spread.upper] == pytest.approx([0.8, 0.8, 0.8])


def test_the_cpu_ratio_compares_what_a_call_costs_the_server() -> None:
    """Twice the CPU time for as many calls is a ratio of one half."""
    pairs = [(make_round(100, cpu_seconds=0.1), make_round(100, cpu_seconds=0.2))]
    assert Comparison.of("Choose", "here", pairs).cpu_ratio == pytest.approx(0.5)
