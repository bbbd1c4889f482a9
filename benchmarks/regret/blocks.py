"""Matches on all cores: blocks of runs, each with seeds of its own, so that no figure depends on the machine.

The seeds of a block follow from the seed, the contestant's label and the block's number, as children of one
`SeedSequence`. So figures are the same with any number of processes and whoever else takes part, and all
contestants meet the same worlds.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, TypeAlias

import numpy as np

from benchmarks.harness.parallel import OnProgress, run_all
from benchmarks.regret.players.contestants import Contestant
from benchmarks.regret.players.peers import PeerContestant, PeerPlayer
from benchmarks.regret.players.policy_player import PolicyPlayer
from benchmarks.regret.problems.problem import Problem, ProblemError
from benchmarks.regret.simulation import Measured, simulate

Entrant: TypeAlias = Contestant | PeerContestant

_CELLS_OF_A_BLOCK: Final = 2_500
_FEWEST_RUNS: Final = 25
_MOST_RUNS: Final = 500
_RUNS_OF_PEERS: Final = 10
_MOST_WAITING: Final = 16_000_000
"""Outcomes of a block that may wait for their delay, at 16 bytes each."""

_WORLD: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A contestant on a problem.

    Attributes:
        problem: What is played.
        entrant: Who plays.
        n_runs: How often.
        seed: Where all luck comes from.
    """

    problem: Problem
    entrant: Entrant
    n_runs: int
    seed: int

    @property
    def n_rounds(self) -> int:
        """Rounds of all runs together."""
        return self.n_runs * self.problem.horizon

    def blocks(self) -> list["Block"]:
        """Groups of runs of about the same size, whatever the machine.

        Raises:
            ProblemError: more outcomes would wait for their delay than fit into memory.
        """
        n_blocks = -(-self.n_runs // self._runs_of_a_block())
        bounds = [self.n_runs * number // n_blocks for number in range(n_blocks + 1)]
        return [Block(self, number, bounds[number + 1] - bounds[number]) for number in range(n_blocks)]

    def _runs_of_a_block(self) -> int:
        problem = self.problem
        n_waiting = min(problem.delay + problem.refresh_every, problem.horizon)
        if n_waiting > _MOST_WAITING:
            rule = f"and --refresh-every make {n_waiting:,} outcomes wait, and memory holds {_MOST_WAITING:,}"
            raise ProblemError("delay", rule)
        if isinstance(self.entrant, PeerContestant):
            return _RUNS_OF_PEERS
        fitting = min(max(_CELLS_OF_A_BLOCK // problem.n_arms, _FEWEST_RUNS), _MOST_RUNS)
        return max(1, min(fitting, _MOST_WAITING // n_waiting))


@dataclass(frozen=True, slots=True)
class Block:
    """Some runs of a match.

    Attributes:
        match: The match.
        number: Which block it is, from 0.
        n_runs: How many runs.
    """

    match: Match
    number: int
    n_runs: int

    def play(self, on_rounds: OnProgress) -> Measured:
        """Plays its runs, and calls back with how many rounds more were played."""
        problem, entrant = self.match.problem, self.match.entrant
        label = 1 + zlib.crc32(entrant.label.encode())
        worlds, choices, outcomes = self._rng(_WORLD), self._rng(label, 0), self._rng(label, 1)
        player = (
            PeerPlayer(problem, entrant.make, self.n_runs, choices)
            if isinstance(entrant, PeerContestant)
            else PolicyPlayer(problem, entrant, self.n_runs, choices)
        )
        return simulate(problem, player, self.n_runs, (worlds, outcomes), on_rounds)

    def _rng(self, *key: int) -> np.random.Generator:
        sequence = np.random.SeedSequence(self.match.seed, spawn_key=(*key, self.number))
        return np.random.default_rng(sequence)


def play_all(matches: Sequence[Match], n_processes: int, on_rounds: OnProgress) -> list[Measured]:
    """Plays matches, and returns what each measured, in order.

    Args:
        matches: What is played, by whom.
        n_processes: How many processes play; 1: this one.
        on_rounds: Called with how many more rounds of a run were played.
    """
    of_match = [match.blocks() for match in matches]
    blocks = [block for blocks in of_match for block in blocks]
    measured = iter(run_all([block.play for block in blocks], n_processes, on_rounds))
    return [reduce(Measured.merge, [next(measured) for _ in blocks]) for blocks in of_match]
