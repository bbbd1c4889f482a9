"""The expected path of shares under a learning policy, along which a plan is computed.

A policy that gives arm k ``floor_k + rest * P(best)_k``, as Thompson sampling does, is followed in steps of N
that grow by a tenth. After n_k decisions it believes the mean of arm k to be near the true one, with the
variance ``s_k^2 = 1 / (n_k / v_k + 12)``: 12 is the precision of a uniform prior. Its estimates scatter with
that variance too, so the *expected* P(best) is the probability that arm k's draw is the largest if each draw
has the variance ``2 s_k^2``; for two arms ``Phi(gap / sqrt(2 (s_0^2 + s_1^2)))``. With ``s_k^2`` alone it is
P(best) of an experiment that is neither lucky nor unlucky.

Fed back into n_k, the expectation is accurate if the losing arm has a floor. Without one, a few experiments
give it nearly all of its expected decisions, and the others wait far longer (sixfold, in simulations). So for
floors from 2 % down to 0 the variance falls from ``2 s_k^2`` to ``s_k^2`` in proportion: simulations support
this choice, and it errs on the long side. Ramps, warm-ups, delays and maximum shares are left out.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from bandit.inference.data.table import FloatArray

MOST_DECISIONS: Final = 1e15
"""A lift that needs more decisions counts as never seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharePath:
    """Expected shares over the course of an experiment.

    Attributes:
        ends: Decisions over all arms at the end of each step, ascending, shape (n_steps,).
        champion: The champion's share within each step, in [0, 1], shape (n_steps,).
        challenger: One challenger's share, likewise, shape (n_steps,).
    """

    ends: FloatArray
    champion: FloatArray
    challenger: FloatArray

    @property
    def decisions(self) -> FloatArray:
        """Decisions of each step over all arms, shape (n_steps,)."""
        return np.diff(self.ends, prepend=0.0)

    def mean_shares(self, n: float) -> tuple[float, float]:
        """Return the shares of champion and challenger over the first `n` decisions, or over all steps."""
        within = np.clip(n - (self.ends - self.decisions), 0.0, self.decisions)
        total = within.sum()
        return float(within @ self.champion / total), float(within @ self.challenger / total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """What a policy distributes, and among which arms; all but the first two are like the champion.

    Attributes:
        floors: Shares of champion, challenger, and each other challenger that do not depend on beliefs.
        rest: The share that beliefs distribute, in [0, 1]; 0 for a static split.
        gap: How much better the challenger is than the champion, in positions; negative if it is worse.
        variances: Of one outcome of champion, challenger, and each other challenger, in positions.
        n_others: Number of challengers besides the first.
    """

    floors: tuple[float, float, float]
    rest: float
    gap: float
    variances: tuple[float, float, float]
    n_others: int


def follow(race: Race) -> SharePath:
    """Return the expected path from the first decision to `MOST_DECISIONS`."""
    ends = np.geomspace(1.0, MOST_DECISIONS, _N_STEPS)
    floors, variances = np.array(race.floors), np.maximum(race.variances, _LEAST_VARIANCE)
    shares, n = np.tile(floors, (len(ends), 1)), np.zeros(3)
    if race.rest > 0:
        factor = _scatter(race.floors[0] if race.gap > 0 else race.floors[1])
        for step, decisions in enumerate(np.diff(ends, prepend=0.0)):
            spread = np.sqrt(factor * variances / (n + _PRIOR_PRECISION * variances))
            shares[step] += race.rest * _chances_of_best(race.gap, spread, race.n_others)
            n += decisions * shares[step]
    return SharePath(ends=ends, champion=shares[:, 0], challenger=shares[:, 1])


def _scatter(floor_of_loser: float) -> float:
    """Return a draw's variance as a multiple of ``s_k^2``, from 1 to 2."""
    return 1 + min(floor_of_loser / _FLOOR_OF_FULL_SCATTER, 1.0)


def _chances_of_best(gap: float, spread: FloatArray, n_others: int) -> FloatArray:
    """Return P(draw is the largest) of champion, challenger and each other arm, by quadrature."""
    champion, challenger = spread[0] * _NODES, gap + spread[1] * _NODES
    beaten = scipy.special.ndtr(
        np.stack([champion - gap, challenger, champion, challenger])
        / np.array([spread[1], spread[0], spread[2], spread[2]])[:, np.newaxis]
    )
    best = np.minimum((beaten[:2] * beaten[2:] ** n_others) @ _WEIGHTS, 1.0)
    others = max(1 - best.sum(), 0.0) / n_others if n_others else 0.0
    return np.array([*best, others])


_N_STEPS: Final = 363
_PRIOR_PRECISION: Final = 12.0
_FLOOR_OF_FULL_SCATTER: Final = 0.02
_LEAST_VARIANCE: Final = 1e-12
_NODES: Final = np.linspace(-6.0, 6.0, 97)
_WEIGHTS: Final = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()
