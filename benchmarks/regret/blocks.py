"""Blocks of runs, which play a match on all cores with results that do not depend on the machine.

The seeds of a block follow from the seed, the contestant's label and the block's number, as children of one
`SeedSequence`. So figures do not depend on the number of processes or on the other contestants, and all
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
        problem: The problem to play.
        entrant: The contestant.
        n_runs: Number of independent runs.
        seed: Seed of all random numbers.
    """

    problem: Problem
    entrant: Entrant
    n_runs: int
    seed: int

    @property
    def n_rounds(self) -> int:
        """Rounds in all runs together."""
        return self.n_runs * self.problem.horizon

    def blocks(self) -> list["Block"]:
        """Split the runs into blocks of about the same size, which does not depend on the machine.

        Raises:
            ProblemError: More outcomes would wait for their delay than fit into memory.
        """
        n_blocks = -(-self.n_runs // self._runs_of_a_block())
        bounds = [self.n_runs * number // n_blocks for number in range(n_blocks + 1)]
        return [Block(self, number, bounds[number + 1] - bounds[number]) for number in range(n_blocks)]

    def _runs_of_a_block(self) -> int:
        problem = self.problem
        n_waiting = min(problem.delay + problem.refresh_every, problem.horizon)
        if n_waiting > _MOST_WAITING:
            rule = f"and --refresh-every keep {n_waiting:,} outcomes waiting, at most {_MOST_WAITING:,} fit"
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
        number: Index of the block, from 0.
        n_runs: Number of runs in it.
    """

    match: Match
    number: int
    n_runs: int

    def play(self, on_rounds: OnProgress) -> Measured:
        """Play the runs, and call `on_rounds` with the number of rounds played since its last call."""
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
    """Play matches, and return the measurements of each, in order.

    Args:
        matches: The matches to play.
        n_processes: Number of processes; 1 plays in this process.
        on_rounds: Called with the number of rounds played since its last call.
    """
    of_match = [match.blocks() for match in matches]
    blocks = [block for blocks in of_match for block in blocks]
    measured = iter(run_all([block.play for block in blocks], n_processes, on_rounds))
    return [reduce(Measured.merge, [next(measured) for _ in blocks]) for blocks in of_match]
