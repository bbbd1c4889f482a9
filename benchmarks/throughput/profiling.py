"""Where the event loop's time goes: a server under cProfile, and the functions that take the most.

cProfile sees the thread it starts in, which is the event loop's, and makes every Python call more expensive:
read the order and not the amounts. `run` is the event loop itself: C code of gRPC and uvloop, and waiting.
"""

import io
import pstats
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness.experiments import declare
from benchmarks.harness.load_client import Load, LoadClient
from benchmarks.harness.processes import serving
from benchmarks.throughput.cases import Row, few_experiments, profile_rows

N_SHOWN: Final = 25
"""How many functions are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one kind of call spends its time.

    Attributes:
        title: The method called.
        n_calls: How often.
        cpu_us_per_call: CPU time of the server's process, under the profiler.
        functions: The most expensive functions by their own time, as `pstats` prints them.
    """

    title: str
    n_calls: int
    cpu_us_per_call: float
    functions: str


def profile(scratch: Path, client: LoadClient, seconds: float) -> Iterator[Profile]:
    """Profile Choose, BatchChoose, Reward and BatchReward, each on its own server."""
    for row in profile_rows(few_experiments(), seconds):
        folder = scratch / row.title
        folder.mkdir()
        yield _profile_row(row, folder, client, seconds)


def _profile_row(row: Row, folder: Path, client: LoadClient, seconds: float) -> Profile:
    output = folder / "profile"
    command = ("-m", "benchmarks.harness.profiled_server", str(output), "serve")
    with serving(folder, command=command) as server:
        declare(server.address, few_experiments(), lambda _: None)
        done = client.run(
            Load(
                address=server.address,
                pid=server.pid,
                workload=row.workload,
                n_callers=row.n_callers,
                seconds=seconds,
                is_profiled=True,
            )
        )
    return Profile(
        title=row.title,
        n_calls=done.n_calls,
        cpu_us_per_call=done.cpu_seconds * 1e6 / done.n_calls,
        functions=_most_expensive(output),
    )


def _most_expensive(output: Path) -> str:
    """Return the table of `pstats`, without the lines before it."""
    text = io.StringIO()
    pstats.Stats(str(output), stream=text).strip_dirs().sort_stats("tottime").print_stats(N_SHOWN)
    return text.getvalue().partition("\n\n   ncalls")[2].strip()
