"""A cell: one row of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from benchmarks.validity.measures.measurements import Sample
from benchmarks.validity.measures.results import Limit

Play: TypeAlias = Callable[[np.random.Generator, int], Sample]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One row of a table.

    Attributes:
        group: The table.
        name: What is simulated; unique in its group.
        play: Function of a generator and a number of runs that simulates them.
        weight: Factor of the number of runs.
        limits: Column to the figure that is required.
    """

    group: str
    name: str
    play: Play
    weight: float = 1.0
    limits: Mapping[str, Limit] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Group and name; unique."""
        return f"{self.group}: {self.name}"
