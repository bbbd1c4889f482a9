"""How long a server takes to start, and its memory at rest."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.harness.processes import require_serving, serving

N_STARTS: Final = 5
_SETTLING_SECONDS: Final = 1.5
"""Until the first polls are over, which allocate the memory of a server at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Medians over several starts.

    Attributes:
        database: The database that the server found.
        first_line_seconds: From its start to the line with its address.
        serving_seconds: From its start to the first SERVING that a client got.
        resident_mib: Resident memory at rest, in MiB.
    """

    database: str
    first_line_seconds: float
    serving_seconds: float
    resident_mib: float


def measure_startup(scratch: Path, on_start: Callable[[], None]) -> list[Startup]:
    """Start servers on an empty database and on a migrated one; call back after each."""
    migrated = scratch / "migrated"
    migrated.mkdir()
    with serving(migrated):
        pass
    on_start()
    fresh = [_start_in_new_folder(scratch, on_start) for _ in range(N_STARTS)]
    again = [start_once(migrated, on_start) for _ in range(N_STARTS)]
    return [summarise("empty", fresh), summarise("migrated", again)]


def start_once(folder: Path, on_start: Callable[[], None]) -> tuple[float, float, float]:
    """Return seconds to the first line and to SERVING, and resident MiB at rest, of one start."""
    began = time.perf_counter()
    with serving(folder) as server:
        require_serving(server.address)
        seconds = time.perf_counter() - began
        time.sleep(_SETTLING_SECONDS)
        resident_mib = server.resident_mib()
    on_start()
    return server.start_seconds, seconds, resident_mib


def summarise(database: str, starts: list[tuple[float, float, float]]) -> Startup:
    """Return the medians of what `start_once` measured."""
    first_line, serving_after, resident = zip(*starts, strict=True)
    return Startup(
        database=database,
        first_line_seconds=median(first_line),
        serving_seconds=median(serving_after),
        resident_mib=median(resident),
    )


def _start_in_new_folder(scratch: Path, on_start: Callable[[], None]) -> tuple[float, float, float]:
    with TemporaryDirectory(dir=scratch) as folder:
        return start_once(Path(folder), on_start)
