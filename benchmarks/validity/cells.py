"""Cells, the rows of the tables: each is a world, a bandit in it, and the table of its figures."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from bandit.metric import AbsoluteMargin, Margin, RelativeMargin
from benchmarks.validity.cell import Cell, Play
from benchmarks.validity.measures.measurements import Sample, measure
from benchmarks.validity.measures.results import Limit
from benchmarks.validity.required_cells import required_cells
from benchmarks.validity.shapings import EVEN_FIVE, FIVE, FLOORS
from benchmarks.validity.studies.broken_assumptions import (
    arms_better_in_turns,
    successive_challengers,
    unequal_report_delay,
    unposted_failures,
)
from benchmarks.validity.studies.launches import WORLDS as LAUNCHES
from benchmarks.validity.studies.launches import launch_five
from benchmarks.validity.studies.plans import measure_plan
from benchmarks.validity.studies.promotion import LAYOUT, promote, roll_back
from benchmarks.validity.studies.roles import BASE, SIGNAL_DAYS, guard, hold
from benchmarks.validity.studies.rollback_rules import take_out
from benchmarks.validity.studies.static_splits import value_split
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.imperfect_logs import (
    with_fallbacks,
    with_late_outcomes,
    with_returning_units,
    with_unequal_delay,
)
from benchmarks.validity.worlds.layouts import Layout, burst, growing
from benchmarks.validity.worlds.rates import FloatArray, crossing, drifting, seasonal, still, turning, weekly
from benchmarks.validity.worlds.returning_units import Population

GROWING: Final = growing(20_000)
TIMES: Final = GROWING.times
"""20,000 decisions, with a look at the end of each epoch."""

N_EPOCHS: Final = 40
SIZE: Final = 500
"""The same decisions in 40 epochs of 500, where facts of a service are read or a delay is in epochs."""

EQUAL, BETTER = (0.1, 0.1), (0.1, 0.12)
_RARE: Final = Limit(0.05)
_FALSE: Final = {"any": _RARE}
_HELD: Final = {
    key: Limit(0.95, is_least=True)
    for key in ("holds_champion", "holds_challenger", "holds_difference", "holds_lift", "holds_split")
}


def still_at(rates: tuple[float, ...], times: FloatArray) -> FloatArray:
    """Return rates that never change, at these times."""
    return still(rates, len(times))


WORLDS: Final = {"still": still_at, "drift": drifting, "season": seasonal}


def all_cells() -> tuple[Cell, ...]:
    """Return all cells, in the order of the tables."""
    return (
        *(*_equal(), *_different(), *_defective(), *_promotions(), *_roll_backs(), *_splits()),
        *(*_guardrails(), *_signals()),
        *required_cells(),
        *_broken(),
        *_plans(),
        *(*_launches(), *_rollback_rules()),
    )


def _play(
    truth: FloatArray, layout: Layout, shaping: Shaping, rng: np.random.Generator, n_runs: int
) -> Sample:
    return measure(collect(truth, layout, shaping, n_runs, rng), truth, shaping, layout)


def _grown(truth: FloatArray, shaping: Shaping) -> Play:
    return partial(_play, truth, GROWING, shaping)


def _equal() -> Iterator[Cell]:
    limits = _FALSE | _HELD
    for design, shaping in FLOORS.items():
        for world, make in WORLDS.items():
            play = _grown(make(EQUAL, TIMES), shaping)
            yield Cell(group="equal", name=f"2 arms, {design}, {world}", play=play, limits=limits)
    at_once = burst(GROWING.total)
    play = partial(_play, still_at(EQUAL, at_once.times), at_once, FLOORS["50/50"])
    yield Cell(group="equal", name="2 arms, 50/50, burst", play=play, limits=limits)
    for name, shaping, world in (
        ("5 arms, even split, still", EVEN_FIVE, "still"),
        *((f"5 arms, floors 20/5, {world}", FIVE, world) for world in WORLDS),
    ):
        play = _grown(WORLDS[world](EQUAL[:1] * 5, TIMES), shaping)
        yield Cell(group="equal", name=name, play=play, limits=limits)


def _different() -> Iterator[Cell]:
    five = (0.1, 0.12, 0.1, 0.1, 0.1)
    for design, shaping in FLOORS.items():
        play = _grown(still_at(BETTER, TIMES), shaping)
        yield Cell(group="different", name=f"2 arms, {design}, still", play=play, limits=_HELD)
    for world in ("drift", "season"):
        play = _grown(WORLDS[world](BETTER, TIMES), FLOORS["floors 20/5"])
        yield Cell(group="different", name=f"2 arms, floors 20/5, {world}", play=play, limits=_HELD)
    for design, shaping in (("even split", EVEN_FIVE), ("floors 20/5", FIVE)):
        play = _grown(still_at(five, TIMES), shaping)
        yield Cell(group="different", name=f"5 arms, {design}, still", play=play, limits=_HELD)
    play = _grown(crossing(0.1, TIMES), FLOORS["floors 20/5"])
    yield Cell(group="crossing", name="2 arms that cross, floors 20/5", play=play, limits=_HELD)


def _defective() -> Iterator[Cell]:
    truth, shaping = still(EQUAL, N_EPOCHS), FLOORS["floors 20/5"]
    plays: dict[str, Play] = {
        "5 % fallbacks to the champion": partial(with_fallbacks, truth, SIZE, shaping),
        "late successes under the challenger": partial(with_late_outcomes, truth, SIZE, shaping),
        "challenger answers slowly": partial(
            with_unequal_delay, truth, SIZE, Shaping(floors=shaping.floors, lag=8)
        ),
    }
    for visits in (1, 20, 100):
        population = Population(visits=visits, size=SIZE, rhythm=np.ones(N_EPOCHS))
        plays[f"units, up to {visits} decisions each"] = partial(with_returning_units, population, shaping)
    messy = Population(visits=20, size=SIZE, rhythm=np.linspace(0.5, 1.5, N_EPOCHS), is_messy=True)
    for name, play in plays.items():
        yield Cell(group="defects", name=name, play=play, limits=_FALSE)
    name = "5 arms: drift, 20 decisions a unit, fallbacks, late"
    yield Cell(group="defects", name=name, play=partial(with_returning_units, messy, FIVE), limits=_FALSE)


def _promotions() -> Iterator[Cell]:
    for rhythm, swing in (("every day alike", 0.0), ("weekdays +20 %, weekends -50 %", 0.2)):
        for lift in (0.0, 0.1):
            truth = weekly((0.05, 0.05 * (1 + lift)), LAYOUT.times, swing)
            name = f"{'+10 %' if lift else 'equal'}, {rhythm}"
            play = partial(promote, truth, FLOORS["floors 20/5"])
            yield Cell(group="promotion", name=name, play=play)


def _roll_backs() -> Iterator[Cell]:
    for name, ratio in (("equal errors", 1.0), ("errors doubled", 2.0), ("errors times eight", 8.0)):
        play = partial(roll_back, 0.01, ratio, 1_000, N_EPOCHS)
        yield Cell(group="rollback", name=name, play=play)


def _guardrails() -> Iterator[Cell]:
    margins: dict[str, Margin] = {
        "10 % of the champion's": RelativeMargin(0.1),
        "0.002": AbsoluteMargin(0.1 * BASE),
    }
    for ratio in (1.0, 1.25, 1.5, 2.0):
        limits = {"fires": _RARE} if ratio == 1 else {}
        play = partial(guard, None, ratio)
        yield Cell(group="margins", name=f"no margin, errors x {ratio:g}", play=play, limits=limits)
    for name, margin in margins.items():
        for ratio in (1.0, 1.1, 1.25, 1.5, 2.0):
            limits = {1.0: {"fires": _RARE}, 1.1: {"fires": _RARE, "cleared": _RARE}}.get(ratio, {})
            title = f"margin {name}, errors x {ratio:g}"
            yield Cell(group="margins", name=title, play=partial(guard, margin, ratio), limits=limits)


def _signals() -> Iterator[Cell]:
    incident = np.ones(SIGNAL_DAYS)
    incident[14:17] = 2.0
    for ratio in (1.0, 1.1, 1.5):
        limits = {"held": _RARE} if ratio == 1 else {}
        play = partial(hold, np.full(SIGNAL_DAYS, ratio))
        yield Cell(group="signals", name=f"errors x {ratio:g}", play=play, limits=limits)
    yield Cell(group="signals", name="errors doubled for three days", play=partial(hold, incident))


def _splits() -> Iterator[Cell]:
    for world in ("still", "drift"):
        truth = WORLDS[world](BETTER, TIMES)
        for split in ((0.5, 0.5), (0.9, 0.1), (0.2, 0.8)):
            name = f"{split[0]:.0%} / {split[1]:.0%}, {world}".replace("%", " %")
            play = partial(value_split, truth, GROWING, FLOORS["floors 20/5"], split)
            yield Cell(group="splits", name=name, play=play, weight=2.0)


def _broken() -> Iterator[Cell]:
    plays: dict[str, Play] = {}
    below = turning((0.3, 0.2), (0.02, 0.04), TIMES, at=7 / 40)
    for design in ("50/50", "floors 20/5", "floors 5/5"):
        name = f"better in the end, never on average, {design}"
        plays[name] = partial(arms_better_in_turns, below, GROWING, FLOORS[design])
    novelty = turning((0.1, 0.13), (0.1, 0.06), TIMES, at=1 / 2)
    plays["better at first, worse on average, floors 20/5"] = partial(
        arms_better_in_turns, novelty, GROWING, FLOORS["floors 20/5"]
    )
    for rate, answered in ((0.1, 0.9), (0.5, 0.9), (0.9, 0.8)):
        name = f"silence ignored, rate {rate:g}, {answered:.0%} of its failures answered".replace("%", " %")
        plays[name] = partial(unposted_failures, rate, answered, GROWING)
    for late in (0, 1, 4):
        name = f"equal errors in open epochs, the champion's {late} epochs later"
        plays[name] = partial(unequal_report_delay, 0.02, late, N_EPOCHS, SIZE)
    half = growing(GROWING.total // 2)
    plays["twenty equal challengers, one after the other"] = partial(
        successive_challengers, still_at(EQUAL, half.times), half, 20
    )
    for name, play in plays.items():
        yield Cell(group="broken", name=name, play=play)


def _plans() -> Iterator[Cell]:
    shapings = {f"2 arms, {design}": shaping for design, shaping in FLOORS.items()} | {
        "5 arms, floors 20/5": FIVE
    }
    for design, shaping in shapings.items():
        for base, lift in ((0.05, 0.1), (0.1, 0.2), (0.1, -0.2)):
            name = f"{design}, rate {base:g}, {lift:+.0%}".replace("%", " %")
            yield Cell(group="plans", name=name, play=partial(measure_plan, base, lift, shaping))


def _launches() -> Iterator[Cell]:
    limits = dict.fromkeys(("promoted", "rolled_back", "margin_rolled_back"), _RARE)
    for name, world in LAUNCHES.items():
        yield Cell(group="launches", name=name, play=partial(launch_five, world), limits=limits)


def _rollback_rules() -> Iterator[Cell]:
    for ratio in (1.0, 1.1, 1.25, 1.5, 2.0, 5.0):
        limits = {1.0: {"guardrail_fires": _RARE, "margin_fires": _RARE}, 1.1: {"margin_fires": _RARE}}
        yield Cell(
            group="rollback rules",
            name=f"errors x {ratio:g}",
            play=partial(take_out, ratio),
            limits=limits.get(ratio, {}),
        )
