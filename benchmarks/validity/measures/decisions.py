"""Verdicts of the report on a table: the library's e-processes, their means and Holm's adjustment.

`bandit.inference.assess` does the same from an experiment's facts, but also computes intervals, which takes a
hundred times as long; tests check that both agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np

from bandit.inference.data.table import EvidenceTable
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import contrast_process
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.multiplicity import holm, mean_process
from bandit.inference.sequential.odds import (
    GUARDRAIL_GRID,
    PROMOTION_GRID,
    count_events,
    ratio_process,
    reciprocal,
)
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.scores import score
from benchmarks.validity.worlds.rates import FloatArray

ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """E-processes of one direction over the rows of the table."""

    aipw: EProcess
    odds: EProcess

    @property
    def mean(self) -> EProcess:
        """Return their mean, which the report uses for yes/no rewards."""
        return mean_process([self.aipw, self.odds])


def better_and_worse(
    table: EvidenceTable, arm: int, champion: int, design: Design
) -> tuple[Processes, Processes]:
    """Return the evidence that the arm is better than the champion, and that it is worse."""
    nothing = EProcess((0.0,) * len(table.shares))
    scores = score(table, [arm, champion], design, design.cap(arm, champion))
    events = count_events(table, arm, champion)
    made = []
    for order, sign, grid in (
        ((arm, champion), 1.0, PROMOTION_GRID),
        ((champion, arm), -1.0, reciprocal(GUARDRAIL_GRID)),
    ):
        mixture = design.contrast_mixture(*order, design.alpha)
        made.append(
            Processes(
                aipw=nothing if isinstance(scores, CannotSay) else contrast_process(scores, mixture, sign),
                odds=nothing if isinstance(events, CannotSay) else ratio_process(events, grid),
            )
        )
    return made[0], made[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Differences that a report would have established at some look.

    Attributes:
        better: Challengers established as better at any look.
        worse: Challengers established as worse at any look.
        row: The row after which the first of them was established; infinite if there are none.
        processes: Challenger to its e-processes, better and worse.
    """

    better: frozenset[int]
    worse: frozenset[int]
    row: float
    processes: Mapping[int, tuple[Processes, Processes]]

    @property
    def is_any(self) -> bool:
        """True if any difference was established."""
        return bool(self.better or self.worse)


def decide(table: EvidenceTable, design: Design) -> Verdict:
    """Test every challenger against arm 0 in both directions, adjusted by Holm over all of them."""
    pairs = {arm: better_and_worse(table, arm, 0, design) for arm in table.arms[1:]}
    claims = {(arm, side): pair[side].mean for arm, pair in pairs.items() for side in (0, 1)}
    adjusted = holm({key: process.p_value for key, process in claims.items()})
    better, worse = (
        frozenset(arm for arm, side in claims if side == direction and adjusted[arm, side] <= design.alpha)
        for direction in (0, 1)
    )
    row = first_crossing(claims, design.alpha)
    return Verdict(better=better, worse=worse, row=row, processes=pairs)


def first_crossing(processes: Mapping[tuple[int, int], EProcess], alpha: float) -> float:
    """Return the row after which Holm first rejects one of the hypotheses; infinite if it never does."""
    level = log(len(processes) / alpha)
    paths: FloatArray = np.array([process.log_values for process in processes.values()])
    crossed = np.flatnonzero(paths.max(axis=0) >= level)
    return float(crossed[0]) if len(crossed) else np.inf
