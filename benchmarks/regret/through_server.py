"""The whole problem through a real server over gRPC, and whether it costs there what it costs in-process.

A `bandit-server` is started on a scratch database. Each run is an experiment of its own; outcomes are drawn
here, arms there. The server's luck is its own, so its figures differ from time to time within their errors.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from rich.console import Console

from bandit.client import BanditClient
from benchmarks.harness.console import plain_table
from benchmarks.harness.parallel import OnProgress
from benchmarks.harness.processes import serving, verify
from benchmarks.regret.blocks import Match
from benchmarks.regret.players.contestants import Contestant
from benchmarks.regret.players.server_player import MOST_RUNS, ServerPlayer
from benchmarks.regret.problems.problem import ProblemError
from benchmarks.regret.results import Result, to_json
from benchmarks.regret.simulation import simulate

MOST_ERRORS: Final = 4.0
"""Combined standard errors within which two figures agree: off by chance once in 16,000."""

THRESHOLD: Final = 1e-6
"""The server's threshold of log-odds: every outcome that moves a share makes an epoch."""

_EPOCH_INTERVAL: Final = "0.01"
_CALL_SECONDS: Final = 60.0
_SERVER: Final = 1_000_003
"""Marks the seeds of outcomes drawn for a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a contestant cost through a server and in-process.

    Attributes:
        served: Through the server.
        in_process: By simulation.
        n_epochs: Epochs of the server's runs, all together.
    """

    served: Result
    in_process: Result
    n_epochs: int

    @property
    def errors_apart(self) -> float:
        """The difference of the means in combined standard errors; NaN if there was one run only."""
        gap = self.served.mean - self.in_process.mean
        combined = math.hypot(self.served.standard_error, self.in_process.standard_error)
        if combined == 0:
            return 0.0 if gap == 0 else math.copysign(sys.float_info.max, gap)
        return gap / combined

    @property
    def agrees(self) -> bool:
        """Whether they are within four combined standard errors."""
        return abs(self.errors_apart) <= MOST_ERRORS

    def to_json(self, *, has_curve: bool) -> dict[str, object]:
        """The server's figures as an object, and beside them those in-process."""
        return to_json(self.served, has_curve=has_curve) | {
            "n_epochs": self.n_epochs,
            "in_process": to_json(self.in_process, has_curve=has_curve),
            "standard_errors_apart": self.errors_apart,
            "agrees": self.agrees,
        }


def require_servable(matches: Sequence[Match]) -> None:
    """ProblemError unless a server can play these matches."""
    for match in matches:
        if not isinstance(match.entrant, Contestant):
            raise ProblemError("through-server", "can't serve another library's policies: leave them out")
        if match.entrant.half_life is not None:
            raise ProblemError("half-life", "is time on a server and rounds here: leave out --through-server")
        if match.problem.turnover:
            raise ProblemError("turnover", "can't be combined with --through-server")
        if not 2 <= match.n_runs <= MOST_RUNS:  # noqa: PLR2004 - one run has no standard error
            raise ProblemError(
                "runs", f"must be from 2 to {MOST_RUNS:,} with --through-server, got {match.n_runs}"
            )


def play_through_server(
    matches: Sequence[Match], on_rounds: OnProgress
) -> tuple[list[tuple[Result, int]], str]:
    """Plays matches through one server.

    Returns:
        For each match what it cost and how many epochs it had, and what `verify` says of the books after.

    Raises:
        ChildError: The server did not start or stop as it must, or its books don't add up.
        ServerPlayError: It did not answer as it must.
    """
    with TemporaryDirectory(prefix="bandit-regret-") as scratch:
        folder = Path(scratch)
        flags = ("--epoch-interval-seconds", _EPOCH_INTERVAL, "--epoch-threshold", str(THRESHOLD))
        with (
            serving(folder, *flags) as server,
            BanditClient(
                server.address, batch_choose_timeout=_CALL_SECONDS, experiment_timeout=_CALL_SECONDS
            ) as client,
        ):
            played = [_play(client, match, on_rounds) for match in matches]
        return played, verify(folder)


def _play(client: BanditClient, match: Match, on_rounds: OnProgress) -> tuple[Result, int]:
    if not isinstance(match.entrant, Contestant):
        raise TypeError(f"{match.entrant.label} is another library's")
    player = ServerPlayer(client, match.problem, match.entrant, match.n_runs, THRESHOLD)
    worlds, outcomes = (
        np.random.default_rng(np.random.SeedSequence(match.seed, spawn_key=(_SERVER, number)))
        for number in range(2)
    )
    measured = simulate(match.problem, player, match.n_runs, (worlds, outcomes), on_rounds)
    return Result(title="through a server", match=match, measured=measured), player.n_epochs


def print_comparisons(comparisons: Sequence[Comparison], out: Console) -> None:
    """Both figures side by side, and whether they agree."""
    table = plain_table(
        "Through a server over gRPC, and in-process",
        *(
            "policy",
            "runs",
            "epochs",
            "regret",
            "SE",
            "in-process\nruns",
            "regret",
            "SE",
            "SE apart",
            "agrees",
        ),
        no_wrap=True,
    )
    for each in comparisons:
        table.add_row(
            each.served.match.entrant.label,
            f"{each.served.measured.regret.n:,}",
            f"{each.n_epochs:,}",
            f"{each.served.mean:,.2f}",
            f"± {each.served.standard_error:.2f}",
            f"{each.in_process.measured.regret.n:,}",
            f"{each.in_process.mean:,.2f}",
            f"± {each.in_process.standard_error:.2f}",
            f"{each.errors_apart:+.1f}",
            "yes" if each.agrees else "NO",
        )
    out.print(table)
