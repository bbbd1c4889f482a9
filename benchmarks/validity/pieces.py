"""Cells in pieces, for several processes; the results depend on the seed and not on how many there are."""

import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from benchmarks.harness.parallel import OnProgress
from benchmarks.validity.cell import Cell
from benchmarks.validity.cells import all_cells
from benchmarks.validity.measures.measurements import Sample

CHUNK: Final = 50
"""Runs of one piece of work, which has a seed of its own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a cell's runs; `cell` is its title."""

    cell: str
    number: int
    n_runs: int
    seed: int

    def play(self, on_progress: OnProgress) -> tuple[Sample, float]:
        """Return the piece's figures and the CPU seconds that they took; a piece is one step of progress."""
        started = time.process_time()
        entropy = (self.seed, zlib.crc32(self.cell.encode()), self.number)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        cell = next(cell for cell in all_cells() if cell.title == self.cell)
        sample = cell.play(rng, self.n_runs)
        on_progress(1)
        return sample, time.process_time() - started


def pieces_of(cells: Iterable[Cell], runs: int, seed: int) -> list[Piece]:
    """The runs of each cell, in chunks."""
    totals = {cell.title: ceil(runs * cell.weight) for cell in cells}
    return [
        Piece(cell, number, min(CHUNK, total - start), seed)
        for cell, total in totals.items()
        for number, start in enumerate(range(0, total, CHUNK))
    ]


def joined(samples: Sequence[Sample]) -> Sample:
    """The samples of one cell's pieces as one."""
    return {key: np.concatenate([sample[key] for sample in samples]) for key in samples[0]}
