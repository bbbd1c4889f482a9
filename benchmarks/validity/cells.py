"""Cells, the rows of the tables: each is a world, a bandit in it, and the table of its figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from benchmarks.validity.measures.measurements import Sample, measure
from benchmarks.validity.studies.broken_assumptions import (
    arms_better_in_turns,
    successive_challengers,
    unequal_report_delay,
    unposted_failures,
)
from benchmarks.validity.studies.plans import measure_plan
from benchmarks.validity.studies.promotion import EPOCHS_A_DAY, N_DAYS, promote, roll_back
from benchmarks.validity.studies.static_splits import value_split
from benchmarks.validity.worlds.histories import Shaping, collect
from benchmarks.validity.worlds.imperfect_logs import (
    with_fallbacks,
    with_late_outcomes,
    with_returning_units,
    with_unequal_delay,
)
from benchmarks.validity.worlds.rates import FloatArray, crossing, drifting, seasonal, still, turning, weekly
from benchmarks.validity.worlds.returning_units import Population

Play: TypeAlias = Callable[[np.random.Generator, int], Sample]

N_EPOCHS: Final = 40
SIZE: Final = 500
"""40 epochs of 500 decisions, with a look after each."""

EQUAL, BETTER = (0.1, 0.1), (0.1, 0.12)
FLOORS: Final = {
    "50/50": Shaping(floors=(0.5, 0.5), fixed=(0.5, 0.5)),
    "floors 20/5": Shaping(floors=(0.2, 0.05)),
    "floors 5/5": Shaping(floors=(0.05, 0.05)),
    "floors 1/1": Shaping(floors=(0.01, 0.01)),
}
FIVE: Final = Shaping(floors=(0.2, 0.05, 0.05, 0.05, 0.05))
WORLDS: Final = {"still": still, "drift": drifting, "season": seasonal}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row of a table.

    Attributes:
        group: The table.
        name: What is simulated; unique in its group.
        play: Function of a generator and a number of runs that simulates them.
        weight: Factor of the number of runs.
    """

    group: str
    name: str
    play: Play
    weight: float = 1.0

    @property
    def title(self) -> str:
        """Group and name; unique."""
        return f"{self.group}: {self.name}"


def all_cells() -> tuple[Cell, ...]:
    """Return all cells, in the order of the tables."""
    return (
        *(*_equal(), *_different(), *_defective(), *_promotions(), *_roll_backs(), *_splits()),
        *_broken(),
        *_plans(),
    )


def _play(truth: FloatArray, shaping: Shaping, rng: np.random.Generator, n_runs: int) -> Sample:
    return measure(collect(truth, SIZE, shaping, n_runs, rng), truth, shaping.floors, SIZE)


def _equal() -> Iterator[Cell]:
    for design, shaping in FLOORS.items():
        for world, make in WORLDS.items():
            play = partial(_play, make(EQUAL, N_EPOCHS), shaping)
            yield Cell(group="equal", name=f"2 arms, {design}, {world}", play=play)
    even = Shaping(floors=(0.2,) * 5, fixed=(0.2,) * 5)
    yield Cell(group="equal", name="5 arms, even split, still", play=_five("still", even))
    for world in WORLDS:
        name = f"5 arms, floors 20/5, {world}"
        yield Cell(group="equal", name=name, play=_five(world, FIVE), weight=2.0)


def _five(world: str, shaping: Shaping) -> Play:
    return partial(_play, WORLDS[world](EQUAL[:1] * 5, N_EPOCHS), shaping)


def _different() -> Iterator[Cell]:
    for design, shaping in FLOORS.items():
        play = partial(_play, still(BETTER, N_EPOCHS), shaping)
        yield Cell(group="different", name=f"2 arms, {design}, still", play=play)
    for world in ("drift", "season"):
        truth = WORLDS[world](BETTER, N_EPOCHS)
        play = partial(_play, truth, FLOORS["floors 20/5"])
        yield Cell(group="different", name=f"2 arms, floors 20/5, {world}", play=play)
    five = still((0.1, 0.12, 0.1, 0.1, 0.1), N_EPOCHS)
    even = Shaping(floors=(0.2,) * 5, fixed=(0.2,) * 5)
    yield Cell(group="different", name="5 arms, even split, still", play=partial(_play, five, even))
    yield Cell(group="different", name="5 arms, floors 20/5, still", play=partial(_play, five, FIVE))
    crossed = crossing(0.1, N_EPOCHS)
    yield Cell(
        group="crossing",
        name="2 arms that cross, floors 20/5",
        play=partial(_play, crossed, FLOORS["floors 20/5"]),
    )


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
        yield Cell(group="defects", name=name, play=play)
    name = "5 arms: drift, 20 decisions a unit, fallbacks, late"
    yield Cell(group="defects", name=name, play=partial(with_returning_units, messy, FIVE), weight=2.0)


def _promotions() -> Iterator[Cell]:
    for rhythm, swing in (("every day alike", 0.0), ("weekdays +20 %, weekends -50 %", 0.2)):
        for lift in (0.0, 0.1):
            truth = weekly((0.05, 0.05 * (1 + lift)), N_DAYS, EPOCHS_A_DAY, swing)
            name = f"{'+10 %' if lift else 'equal'}, {rhythm}"
            play = partial(promote, truth, FLOORS["floors 20/5"])
            yield Cell(group="promotion", name=name, play=play)


def _roll_backs() -> Iterator[Cell]:
    for name, ratio in (("equal errors", 1.0), ("errors doubled", 2.0), ("errors times eight", 8.0)):
        play = partial(roll_back, 0.01, ratio, 1_000, N_EPOCHS)
        yield Cell(group="rollback", name=name, play=play)


def _splits() -> Iterator[Cell]:
    for world in ("still", "drift"):
        truth = WORLDS[world](BETTER, N_EPOCHS)
        for split in ((0.5, 0.5), (0.9, 0.1), (0.2, 0.8)):
            name = f"{split[0]:.0%} / {split[1]:.0%}, {world}".replace("%", " %")
            play = partial(value_split, truth, SIZE, FLOORS["floors 20/5"], split)
            yield Cell(group="splits", name=name, play=play, weight=2.0)


def _broken() -> Iterator[Cell]:
    plays: dict[str, Play] = {}
    below = turning((0.3, 0.2), (0.02, 0.04), N_EPOCHS, at=7)
    for design in ("50/50", "floors 20/5", "floors 5/5"):
        name = f"better in the end, never on average, {design}"
        plays[name] = partial(arms_better_in_turns, below, SIZE, FLOORS[design])
    novelty = turning((0.1, 0.13), (0.1, 0.06), N_EPOCHS, at=N_EPOCHS // 2)
    plays["better at first, worse on average, floors 20/5"] = partial(
        arms_better_in_turns, novelty, SIZE, FLOORS["floors 20/5"]
    )
    for rate, answered in ((0.1, 0.9), (0.5, 0.9), (0.9, 0.8)):
        name = f"silence ignored, rate {rate:g}, {answered:.0%} of its failures answered".replace("%", " %")
        plays[name] = partial(unposted_failures, rate, answered, N_EPOCHS, SIZE)
    for late in (0, 1, 4):
        name = f"equal errors in open epochs, the champion's {late} epochs later"
        plays[name] = partial(unequal_report_delay, 0.02, late, N_EPOCHS, SIZE)
    plays["twenty equal challengers, one after the other"] = partial(
        successive_challengers, still(EQUAL, N_EPOCHS // 2), SIZE, 20
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
