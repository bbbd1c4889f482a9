"""The sample ratio mismatch (SRM) check under moving shares: do decisions follow the shares?

The alarm is an e-process, since it is looked at all the time. In each epoch it tests Multinomial(n, shares)
against a Dirichlet-multinomial whose mean is the shares tilted by earlier epochs' counts, and whose weight
grows with those. If the shares stay the same, this is exactly the Dirichlet mixture of Lindon & Malek (2022,
*Anytime-valid inference for multinomial count data*), however the decisions are divided into epochs. The
arms' z is for description only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import scipy

from bandit.inference.data.table import ExposureTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.results import EProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Decisions compared with shares.

    Attributes:
        expected: Arm number to the decisions expected by the shares.
        observed: Arm number to the decisions counted.
        z: Arm number to its deviation in standard deviations; None if the shares left nothing to chance.
        process: Evidence against "decisions follow the shares", over the epochs.
        n_foreign: Decisions for arms in epochs that gave them no share; never the result of chance.
    """

    expected: Mapping[int, float]
    observed: Mapping[int, int]
    z: Mapping[int, float | None]
    process: EProcess
    n_foreign: int = 0

    def is_alarming(self, alpha: float = 0.001) -> bool:
        """True if assignment or counting is wrong, at the false-alarm rate `alpha` over all looks."""
        return self.n_foreign > 0 or self.process.rejects(alpha)


def check_sample_ratio(table: ExposureTable) -> SampleRatio | CannotSay:
    """Check all rows of the table; its counts may be decisions, units at first exposure, or answers."""
    totals = table.counts.sum(axis=1)
    if totals.sum() == 0:
        return CannotSay(Reason.NO_DECISIONS)
    shares = np.where(table.shares > _NO_SHARE, table.shares, 0.0)
    is_foreign = (shares == 0) & (table.counts > 0)
    counts = np.where(is_foreign, 0.0, table.counts)
    expected = (shares * totals[:, np.newaxis]).sum(axis=0)
    spread = (shares * np.maximum(1 - shares, 0.0) * totals[:, np.newaxis]).sum(axis=0)
    observed = table.counts.sum(axis=0)
    return SampleRatio(
        expected=dict(zip(table.arms, expected.tolist(), strict=True)),
        observed=dict(zip(table.arms, (int(count) for count in observed), strict=True)),
        z={
            arm: float(gap) / sqrt(width) if width > _NO_CHANCE else None
            for arm, gap, width in zip(table.arms, observed - expected, spread.tolist(), strict=True)
        },
        process=EProcess.of(np.cumsum(_log_factors(shares, counts))),
        n_foreign=int(table.counts[is_foreign].sum()),
    )


def _log_factors(shares: FloatArray, counts: FloatArray) -> FloatArray:
    """Return ln of each epoch's factor, shape (n_epochs,)."""
    observed = np.cumsum(counts, axis=0) - counts
    totals = counts.sum(axis=1, keepdims=True)
    norms = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, norms, out=np.zeros_like(shares), where=norms > 0)
    expected = np.cumsum(shares * totals, axis=0) - shares * totals
    tilted = shares * (_CONCENTRATION * shares + observed)
    tilted = np.divide(
        tilted, _CONCENTRATION * shares + expected, out=np.zeros_like(shares), where=shares > 0
    )
    weight = _CONCENTRATION + observed.sum(axis=1, keepdims=True)
    alphas = weight * tilted / np.maximum(tilted.sum(axis=1, keepdims=True), _NO_SHARE)
    has_share = shares > 0
    safe_alphas, safe_shares = np.where(has_share, alphas, 1.0), np.where(has_share, shares, 1.0)
    gains = _log_rising(safe_alphas, counts) - counts * np.log(safe_shares)
    return np.asarray(np.where(has_share, gains, 0.0).sum(axis=1) - _log_rising(weight, totals)[:, 0])


def _log_rising(start: FloatArray, n: FloatArray) -> FloatArray:
    """Return ``ln Gamma(start + n) - ln Gamma(start)``."""
    return np.asarray(scipy.special.gammaln(start + n) - scipy.special.gammaln(start))


_CONCENTRATION = 1000.0
"""Weight of the declared shares, in decisions: the alarm is most sensitive to a few per cent."""
_NO_SHARE = 1e-12
_NO_CHANCE = 1e-9
