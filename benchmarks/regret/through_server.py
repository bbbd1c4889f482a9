"""Matches through a real server over gRPC, and the comparison of their regret with in-process runs.

A `bandit-server` is started on a scratch database. Each run is a separate experiment. Outcomes are drawn
here, arms by the server without a fixed seed, so its figures vary within their standard errors.
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
"""Combined standard errors within which two figures agree; chance exceeds them once in 16,000."""

THRESHOLD: Final = 1e-6
"""The server's threshold of log-odds, so low that every outcome that moves a share makes an epoch."""

_EPOCH_INTERVAL: Final = "0.01"
_CALL_SECONDS: Final = 60.0
_SERVER: Final = 1_000_003
"""Marks the seeds of outcomes drawn for a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Regret of a contestant through a server and in-process.

    Attributes:
        served: Result through the server.
        in_process: Result of the simulation.
        n_epochs: Number of epochs in all of the server's runs together.
    """

    served: Result
    in_process: Result
    n_epochs: int

    @property
    def errors_apart(self) -> float:
        """Difference of the means in combined standard errors; NaN for a single run."""
        gap = self.served.mean - self.in_process.mean
        combined = math.hypot(self.served.standard_error, self.in_process.standard_error)
        if combined == 0:
            return 0.0 if gap == 0 else math.copysign(sys.float_info.max, gap)
        return gap / combined

    @property
    def agrees(self) -> bool:
        """True if they are within four combined standard errors."""
        return abs(self.errors_apart) <= MOST_ERRORS

    def to_json(self, *, has_curve: bool) -> dict[str, object]:
        """Return the server's figures as a JSON object, with the in-process ones in it."""
        return to_json(self.served, has_curve=has_curve) | {
            "n_epochs": self.n_epochs,
            "in_process": to_json(self.in_process, has_curve=has_curve),
            "standard_errors_apart": self.errors_apart,
            "agrees": self.agrees,
        }


def require_servable(matches: Sequence[Match]) -> None:
    """Raise ProblemError if a server can't play these matches."""
    for match in matches:
        if not isinstance(match.entrant, Contestant):
            raise ProblemError("through-server", "can't serve another library's policies: leave them out")
        if match.entrant.half_life is not None:
            rule = "is in rounds, and a server's is in time: leave out --half-life or --through-server"
            raise ProblemError("half-life", rule)
        if match.problem.turnover:
            raise ProblemError("turnover", "can't be combined with --through-server")
        if not 2 <= match.n_runs <= MOST_RUNS:  # noqa: PLR2004 - one run has no standard error
            raise ProblemError(
                "runs", f"must be from 2 to {MOST_RUNS:,} with --through-server, got {match.n_runs}"
            )


def play_through_server(
    matches: Sequence[Match], on_rounds: OnProgress
) -> tuple[list[tuple[Result, int]], str]:
    """Play matches through one server.

    Returns:
        For each match its result and number of epochs, and the output of `verify` on the ledger afterwards.

    Raises:
        ChildError: The server did not start or stop properly, or its ledger does not add up.
        ServerPlayError: The server gave an unexpected answer.
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
        raise TypeError(f"a server can't play another library's policy, got {match.entrant.label}")
    player = ServerPlayer(client, match.problem, match.entrant, match.n_runs, THRESHOLD)
    worlds, outcomes = (
        np.random.default_rng(np.random.SeedSequence(match.seed, spawn_key=(_SERVER, number)))
        for number in range(2)
    )
    measured = simulate(match.problem, player, match.n_runs, (worlds, outcomes), on_rounds)
    return Result(title="through a server", match=match, measured=measured), player.n_epochs


def print_comparisons(comparisons: Sequence[Comparison], out: Console) -> None:
    """Print both figures of each contestant side by side, and whether they agree."""
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
