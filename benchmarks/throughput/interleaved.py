"""Methods and the echo measured in turns, so that a disturbance of the machine affects both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.harness.load_client import Load, LoadClient
from benchmarks.harness.processes import Child, running
from benchmarks.harness.timings import Comparison, Round
from benchmarks.harness.workloads import BATCH_REWARD, REWARD, Chooses
from benchmarks.throughput.cases import CALLERS, Row
from benchmarks.throughput.echo import METHOD

_FEWEST_ROUNDS: Final = 3


@contextmanager
def echoing(n_bytes: int) -> Iterator[Child]:
    """Run an echo that answers with `n_bytes` bytes until the block ends."""
    with TemporaryDirectory(prefix="bandit-echo-") as folder:
        arguments = ("-m", "benchmarks.throughput.echo", "--response-bytes", str(n_bytes))
        with running(arguments, Path(folder)) as echo:
            yield echo


class Comparer:
    """Compares methods of one server with the echo.

    Args:
        client: Makes the calls.
        echo: Runs the echo.
        server: Runs what is measured.
        seconds: How long each of the two is measured, in short rounds.
        round_seconds: The length of a round.

    Attributes:
        n_rewards: How many rewards the server has acknowledged.
    """

    def __init__(
        self, client: LoadClient, echo: Child, server: Child, *, seconds: float, round_seconds: float
    ) -> None:
        self._client = client
        self._echo = echo
        self._server = server
        self._round_seconds = round_seconds
        self.n_rounds = max(_FEWEST_ROUNDS, round(seconds / round_seconds))
        self.n_rewards = 0

    def compare(self, row: Row, on_round: Callable[[], None]) -> Comparison:
        """Measure the echo and a row in turns, and call back after each turn of both."""
        pairs = []
        for _ in range(self.n_rounds):
            pairs.append((self._round_of_echo(row), self._round(row)))
            on_round()
        return Comparison.of(row.title, row.setting, pairs, row.aim)

    def _round_of_echo(self, row: Row) -> Round:
        """Call the echo as Choose is called, even where a row's calls are batches from fewer callers."""
        is_batch = row.workload.items_per_call > 1
        n_callers = CALLERS if is_batch else row.n_callers
        workload = Chooses(experiments=("arms-10-0",), has_unit=True, method=METHOD)
        return self._client.run(
            Load(
                address=self._echo.address,
                pid=self._echo.pid,
                workload=workload,
                n_callers=n_callers,
                seconds=self._round_seconds,
            )
        )

    def _round(self, row: Row) -> Round:
        done = self._client.run(
            Load(
                address=self._server.address,
                pid=self._server.pid,
                workload=row.workload,
                n_callers=row.n_callers,
                seconds=self._round_seconds,
            )
        )
        if row.workload.method in {REWARD, BATCH_REWARD}:
            self.n_rewards += (done.n_warm_up + done.n_calls) * row.workload.items_per_call
        return done
