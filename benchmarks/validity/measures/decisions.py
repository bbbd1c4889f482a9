"""Verdicts of the report on the tables of many runs, by the library's e-processes at the report's level.

`bandit.inference.assess` does the same from an experiment's facts, but also computes intervals, which takes a
hundred times as long; tests check that both agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bandit.inference.data.table import EvidenceTable
from bandit.inference.sequential.design import Design
from benchmarks.validity.measures.stacks import Stack, stack_of
from benchmarks.validity.worlds.rates import FloatArray

ALPHA: Final = 0.05
"""Error rate of each table of a report."""

BETTER, WORSE = 0, 1
"""The directions of `Verdicts.paths`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """What reports would have established.

    Attributes:
        paths: Ln E of every challenger and direction after each row, (n_runs, n_challengers, 2, n_rows).
        log_level: Ln of the e-value of a finding.
        stacks: The pairs of each challenger.
    """

    paths: FloatArray
    log_level: float
    stacks: tuple[Stack, ...]

    @property
    def found(self) -> FloatArray:
        """1 for what was established at any look, shape (n_runs, n_challengers, 2)."""
        return np.asarray((self.paths >= self.log_level).any(axis=3), dtype=float)

    @property
    def stands(self) -> FloatArray:
        """1 for what is established at the last look, shape (n_runs, n_challengers, 2)."""
        return np.asarray(self.paths[..., -1] >= self.log_level, dtype=float)

    @property
    def is_any(self) -> FloatArray:
        """1 for each run in which any difference was established at any look."""
        return np.asarray(self.found.max(axis=(1, 2)))

    @property
    def first_rows(self) -> FloatArray:
        """The row after which the first finding of each run was made; infinite if there was none."""
        is_found = np.any(self.paths >= self.log_level, axis=(1, 2))
        return np.where(np.any(is_found, axis=1), np.argmax(is_found, axis=1), np.inf)

    def reaches(self, arm: int, direction: int, level: float) -> FloatArray:
        """Return 1 for each run in which a challenger's process has ever reached this ln E."""
        return np.asarray((self.paths[:, arm - 1, direction] >= level).any(axis=1), dtype=float)


def decide(tables: Sequence[EvidenceTable], design: Design) -> Verdicts:
    """Test every challenger against arm 0 in both directions, in each run."""
    stacks = tuple(stack_of(tables, arm, 0, design) for arm in tables[0].arms[1:])
    paths = [[stack.against_difference(0.0, sign) for sign in (1, -1)] for stack in stacks]
    return Verdicts(paths=np.array(paths).transpose(2, 0, 1, 3), log_level=design.log_level, stacks=stacks)
