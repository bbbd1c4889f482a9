"""Parallel simulation of cells; results depend on the seed and not on the number of processes."""

import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from benchmarks.validity.cells import Cell, all_cells
from benchmarks.validity.measures.measurements import Sample

CHUNK: Final = 50
"""Runs of one piece of work, which has its own seed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a cell's runs; `cell` is its title."""

    cell: str
    number: int
    n_runs: int
    seed: int


def pieces_of(cell: Cell, runs: int, seed: int) -> list[Piece]:
    """Split the cell's runs into pieces."""
    total = ceil(runs * cell.weight)
    sizes = [min(CHUNK, total - start) for start in range(0, total, CHUNK)]
    return [Piece(cell.title, number, size, seed) for number, size in enumerate(sizes)]


def play(piece: Piece) -> tuple[Piece, Sample, float]:
    """Return the piece, its figures, and the CPU seconds that they took."""
    started = time.process_time()
    entropy = (piece.seed, zlib.crc32(piece.cell.encode()), piece.number)
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    cell = next(cell for cell in all_cells() if cell.title == piece.cell)
    sample = cell.play(rng, piece.n_runs)
    return piece, sample, time.process_time() - started


def play_all(cells: Sequence[Cell], runs: int, seed: int, jobs: int) -> Iterator[tuple[Piece, Sample, float]]:
    """Yield every piece of every cell, in the order in which they finish."""
    pieces = [piece for cell in cells for piece in pieces_of(cell, runs, seed)]
    if jobs == 1:
        yield from map(play, pieces)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(play, piece) for piece in pieces]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def joined(samples: dict[int, Sample]) -> Sample:
    """Join the samples of one cell's pieces, in the order of their numbers."""
    ordered = [samples[number] for number in sorted(samples)]
    return {key: np.concatenate([sample[key] for sample in ordered]) for key in ordered[0]}
