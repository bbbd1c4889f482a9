"""Where the event loop's time goes: a server under cProfile, and the functions that take the most.

cProfile sees the thread it starts in, which is the event loop's, and makes every Python call dearer: read
the order and not the amounts. What other threads use (the store's writer, gRPC's own) is told by the kernel.
"""

import io
import pstats
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.declaring import declare
from benchmarks.load import Load, LoadClient
from benchmarks.plan import Row, few_experiments, other_rows
from benchmarks.serving import Child, serving

N_SHOWN: Final = 25
"""How many functions are worth a look."""

_NANO: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one kind of call spends its time on.

    Attributes:
        title: What was called.
        n_calls: How often, warm-up included.
        loop_seconds: CPU time of the event loop's thread.
        other_seconds: CPU time of all other threads.
        functions: The dearest functions by their own time, as `pstats` prints them.
    """

    title: str
    n_calls: int
    loop_seconds: float
    other_seconds: float
    functions: str


def profile(scratch: Path, client: LoadClient, seconds: float) -> Iterator[Profile]:
    """Profiles Choose, BatchChoose, Reward and BatchReward, each on a server of its own."""
    for row in other_rows(few_experiments(), seconds):
        folder = scratch / row.title
        folder.mkdir()
        yield _profile_row(row, folder, client, seconds)


def _profile_row(row: Row, folder: Path, client: LoadClient, seconds: float) -> Profile:
    output = folder / "profile"
    with serving(folder, python=("-m", "cProfile", "-o", str(output))) as server:
        declare(server.address, few_experiments(), lambda _: None)
        before = _thread_seconds(server)
        load = Load(
            address=server.address,
            pid=server.pid,
            workload=row.workload,
            n_callers=row.n_callers,
            seconds=seconds,
        )
        done = client.run(load)
        after = _thread_seconds(server)
    return Profile(
        title=row.title,
        n_calls=done.n_calls + done.n_warm_up,
        loop_seconds=after[0] - before[0],
        other_seconds=after[1] - before[1],
        functions=_dearest(output),
    )


def _thread_seconds(server: Child) -> tuple[float, float]:
    """CPU time of the main thread, and of the others that still run."""
    main = others = 0.0
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        used = int((task / "schedstat").read_text(encoding="ascii").split()[0]) * _NANO
        if task.name == str(server.pid):
            main = used
        else:
            others += used
    return main, others


def _dearest(output: Path) -> str:
    """The table of `pstats`, without what stands before it."""
    text = io.StringIO()
    pstats.Stats(str(output), stream=text).strip_dirs().sort_stats("tottime").print_stats(N_SHOWN)
    return text.getvalue().partition("\n\n   ncalls")[2].strip()
