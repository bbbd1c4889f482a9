"""The sums that a test is expected to see along a path of shares, and those of an unlucky experiment.

The report's tests read a `Pair`: counts and sums by row. Here its rows are the steps of a path, with expected
counts and sums, and the centres that those give. After N decisions the true sums lie around the expected
ones. What the tests weigh is the contrast ``T = sum (1 - pi) s_k - pi s_0``, with the variance ``V = sum (1 -
pi)^2 n_k v_k + pi^2 n_0 v_0`` given the counts. An experiment z standard deviations out of luck has T worse
by ``z sqrt(V)`` after every step; each arm bears of that what it adds to V.
"""

from dataclasses import dataclass, replace

import numpy as np

from bandit.inference.data.pairs import Pair, pair_of
from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.planning.share_path import SharePath
from bandit.inference.reasons import CannotSay

CHAMPION, CHALLENGER, OTHERS = 0, 1, 2
"""Numbers of the arms of a plan; other challengers count as one arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What the arms' outcomes are like, in positions.

    Attributes:
        means: Means of champion and challenger; other challengers are like the champion.
        variances: Variances of one outcome, at most mean (1 - mean).
    """

    means: tuple[float, float]
    variances: tuple[float, float]


def expected_pair(path: SharePath, outcomes: Outcomes) -> Pair | CannotSay:
    """Return the expected rows of champion and challenger that count in tests; steps of the path."""
    shares = np.stack([path.champion, path.challenger], axis=1)
    shares = np.concatenate([shares, np.maximum(1 - shares.sum(axis=1, keepdims=True), 0.0)], axis=1)
    n = path.decisions[:, np.newaxis] * shares
    means, variances = (np.array([*values, values[0]]) for values in (outcomes.means, outcomes.variances))
    table = EvidenceTable(
        arms=(CHAMPION, CHALLENGER, OTHERS),
        shares=shares,
        n=n,
        sums=n * means,
        squares=n * (variances + means**2),
        scale=ValueScale(),
    )
    pair = pair_of(table, CHALLENGER, CHAMPION)
    return pair if isinstance(pair, CannotSay) else pair.tested()


def unlucky(pair: Pair, outcomes: Outcomes, sign: int, luck: float) -> Pair:
    """Return the pair's rows if the contrast is worse than expected, after every row.

    Args:
        pair: Expected rows.
        outcomes: What the arms' outcomes are like.
        sign: 1 if the challenger has more, -1 if it has less.
        luck: By how many standard deviations it is worse.
    """
    if luck == 0:
        return pair
    each = pair.weights * pair.n * np.array(outcomes.variances)[:, np.newaxis]
    added = (pair.weights * each).sum(axis=0)
    loss = luck * np.diff(np.sqrt(np.cumsum(added)), prepend=0.0)
    moved = sign * each * np.divide(loss, added, out=np.zeros_like(loss), where=added > 0)
    sums: FloatArray = pair.sums + np.stack([moved[CHAMPION], -moved[CHALLENGER]])
    spread = pair.squares - np.divide(pair.sums**2, pair.n, out=np.zeros_like(sums), where=pair.n > 0)
    squares = spread + np.divide(sums**2, pair.n, out=np.zeros_like(sums), where=pair.n > 0)
    return replace(pair, sums=sums, squares=squares)
