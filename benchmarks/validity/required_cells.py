"""Cells with the figures that a report is required to reach: each level once around a base, and their limits.

The base are two arms that are alike at a rate of .1. Decisions are given for the pair: 500 or 5,000 an arm.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks.validity.cell import Cell
from benchmarks.validity.measures.results import Limit
from benchmarks.validity.shapings import FIVE, FLOORS, split_evenly
from benchmarks.validity.studies.requirements import (
    Setting,
    measure_first_days,
    measure_power,
    measure_varying,
)
from benchmarks.validity.worlds.histories import Shaping
from benchmarks.validity.worlds.layouts import Layout, burst, growing
from benchmarks.validity.worlds.outcomes import Amounts, amounts, counts
from benchmarks.validity.worlds.rates import fading, seasonal, turning, weekly

_SIZES: Final = (1_000, 10_000)
_RATES: Final = (0.001, 0.01, 0.1, 0.5)
_SPREADS: Final = {1_000: Limit(1.25), 10_000: Limit(1.18)}
_FEW: Final = {"missed": Limit(0.05), "any": Limit(0.05)}
_WIDTHS: Final = ((100.0, 1.9), (10.0, 2.4), (1.0, 5.0))
"""Events of a pair, and the width allowed from there on for two arms."""

_FACTORS: Final = {2: 1.0, 3: 1.06, 5: 1.13, 20: 1.25}
"""Arms to the factor of the width allowed."""

_RANGES: Final = {
    2: (1.9, 1.9, 2.0),
    10: (2.4, 1.9, 1.9),
    30: (3.8, 2.4, 1.9),
    100: (9.0, 3.9, 2.4),
}
"""Standard deviations in the range of an amount, to the width at 1,000, 10,000 and 100,000 decisions."""

_TOLERANCE: Final = 1.1
_TWENTY: Final = Shaping(floors=(0.2, *(0.02,) * 19))
_WEEK: Final = 12
"""Epochs until outcomes steer with a window of a week: decisions have grown fourteenfold by then."""


def required_cells() -> tuple[Cell, ...]:
    """Return all cells that have a required figure."""
    return (*_yes_no(), *_windows(), *_amounts(), *_varying(), *_power())


def _yes_no() -> Iterator[Cell]:
    for rate in _RATES:
        for design, shaping in FLOORS.items():
            for n_pair in _SIZES:
                name = f"2 arms, rate {rate:g}, {design}, {n_pair:,}"
                yield _first_days(name, rate, shaping, n_pair)
    for n_arms, floors in ((3, None), (5, FIVE), (20, _TWENTY)):
        for n_pair in _SIZES:
            name = f"{n_arms} arms, rate 0.1, even split, {n_pair:,}"
            yield _first_days(name, 0.1, split_evenly(n_arms), n_pair)
            if floors is not None:
                name = f"{n_arms} arms, rate 0.1, floors 20/{100 * floors.floors[1]:g}, {n_pair:,}"
                yield _first_days(name, 0.1, floors, n_pair)


def _windows() -> Iterator[Cell]:
    for rate in (0.01, 0.1):
        for design in ("50/50", "floors 20/5"):
            for n_pair in _SIZES:
                name = f"2 arms, rate {rate:g}, {design}, {n_pair:,} in a burst"
                yield _first_days(name, rate, FLOORS[design], n_pair, burst(n_pair))
        for n_pair in _SIZES:
            name = f"2 arms, rate {rate:g}, floors 20/5, {n_pair:,}, window of a week"
            yield _first_days(name, rate, replace(FLOORS["floors 20/5"], lag=_WEEK), n_pair)


def _first_days(name: str, rate: float, shaping: Shaping, n_pair: int, layout: Layout | None = None) -> Cell:
    n_arms = len(shaping.floors)
    setting = Setting(rate=rate, shaping=shaping, layout=layout or growing(n_pair * n_arms // 2))
    is_static = shaping.fixed is not None or layout is not None
    width = next(width for events, width in _WIDTHS if rate * n_pair >= events)
    limits = _FEW | {
        "spread": Limit(1.0) if is_static else _SPREADS[n_pair],
        "width": Limit(width * _FACTORS[n_arms]),
    }
    return Cell(group="first days", name=name, play=partial(measure_first_days, setting), limits=limits)


def _amounts() -> Iterator[Cell]:
    even = FLOORS["50/50"]
    for ranges, widths in _RANGES.items():
        for n_pair, width in zip((*_SIZES, 100_000), widths, strict=True):
            yield _amount(f"range {ranges} sd, 50/50, {n_pair:,}", amounts(ranges), even, n_pair, width)
    for n_pair, width in zip(_SIZES, _RANGES[10], strict=False):
        yield _amount(f"counts of 2, at most 14, 50/50, {n_pair:,}", counts(2, 14), even, n_pair, width)
        yield _amount(f"range 10 sd, 50/50, {n_pair:,} in a burst", amounts(10), even, n_pair, None)
        for design in ("floors 20/5", "floors 5/5", "floors 1/1"):
            name = f"range 10 sd, {design}, {n_pair:,}"
            yield _amount(name, amounts(10), FLOORS[design], n_pair, None)
        for n_arms in (5, 20):
            name = f"range 10 sd, {n_arms} arms, even split, {n_pair:,}"
            yield _amount(name, amounts(10), split_evenly(n_arms), n_pair, None)


def _amount(name: str, outcomes: Amounts, shaping: Shaping, n_pair: int, width: float | None) -> Cell:
    total = n_pair * len(shaping.floors) // 2
    layout = burst(total) if name.endswith("burst") else growing(total)
    setting = Setting(outcomes=outcomes, shaping=shaping, layout=layout)
    spread = Limit(1.0) if shaping.fixed is not None else _SPREADS[n_pair]
    limits = _FEW | {"spread": spread}
    if width is not None:
        limits |= {"width": Limit(_TOLERANCE * width)}
    return Cell(group="amounts", name=name, play=partial(measure_first_days, setting), limits=limits)


def _varying() -> Iterator[Cell]:
    layout = growing(20_000)
    times = layout.times
    worlds = {
        "constant ratio, base ±60 %": seasonal((0.1, 0.12), times),
        "novelty of +50 % that fades": fading((0.1, 0.1), times),
        "+30 %, then -30 %": turning((0.1, 0.13), (0.1, 0.07), times, at=0.5),
        "weekdays +20 %, weekends -50 %": weekly((0.1, 0.1), times, 0.2),
    }
    for world, truth in worlds.items():
        for design in ("50/50", "floors 20/5", "floors 5/5"):
            has_ratio = world.startswith("constant")
            play = partial(measure_varying, truth, layout, FLOORS[design], has_ratio=has_ratio)
            limits = {"missed_last": Limit(0.05)}
            if has_ratio:
                limits |= {"missed_ratio": Limit(0.05)}
            yield Cell(group="varying", name=f"{world}, {design}", play=play, limits=limits)


def _power() -> Iterator[Cell]:
    five = Shaping(floors=(0.2, 0.03, 0.03, 0.03, 0.03))
    for design, shaping, rates, n, power in (
        ("floors 20/5", FLOORS["floors 20/5"], (0.1, 0.12), 20_000, 0.78),
        ("floors 5/5", FLOORS["floors 5/5"], (0.1, 0.12), 20_000, 0.36),
        ("floors 1/1", FLOORS["floors 1/1"], (0.1, 0.12), 20_000, 0.15),
        ("floors 20/5", FLOORS["floors 20/5"], (0.01, 0.0125), 60_000, 0.34),
        ("floors 20/5", FLOORS["floors 20/5"], (0.5, 0.53), 20_000, 0.64),
        ("floors 20/5", FLOORS["floors 20/5"], (0.9, 0.91), 20_000, 0.17),
        ("5 arms, floors 20/3", five, (0.1, 0.12, 0.1, 0.1, 0.1), 20_000, 0.65),
    ):
        name = f"{design}, {rates[0]:g} to {rates[1]:g}, {n:,}"
        play = partial(measure_power, rates, growing(n), shaping)
        limits = {"power": Limit(power - _SLACK, is_least=True)}
        yield Cell(group="power", name=name, play=play, limits=limits, weight=2.0)


_SLACK: Final = 0.04
