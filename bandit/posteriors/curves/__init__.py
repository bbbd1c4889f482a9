"""Posteriors as curves that can be integrated together; `curves_of` builds them."""

from collections.abc import Sequence

import numpy as np

from bandit.posteriors import BetaPosterior, GammaPosterior, NormalPosterior, Posterior, StudentTPosterior
from bandit.posteriors.curves.base import Curves
from bandit.posteriors.curves.beta import BetaCurves
from bandit.posteriors.curves.gamma import GammaCurves
from bandit.posteriors.curves.location import NORMAL_DF, LocationCurves

__all__ = ["Curves", "curves_of"]


def curves_of(posteriors: Sequence[Posterior], *, maximize: bool) -> Curves:
    """Return the posteriors as curves, in their order; mirrored unless large values are good.

    Raises:
        ValueError: there is no posterior, or they have different coordinates: only Normal and Student-t
            posteriors may be mixed.
    """
    if not posteriors:
        raise ValueError("at least one posterior is needed")
    betas, gammas, locations = [], [], []
    for posterior in posteriors:
        match posterior:
            case BetaPosterior(alpha, beta):
                betas.append((alpha, beta))
            case GammaPosterior(shape, rate):
                gammas.append((shape, rate))
            case NormalPosterior(mean, sd):
                locations.append((mean, sd, NORMAL_DF))
            case StudentTPosterior(mean, scale, df):
                locations.append((mean, scale, df))
    if len(posteriors) not in (len(betas), len(gammas), len(locations)):
        raise ValueError("posteriors of different families cannot be compared, except Normal with Student-t")
    if betas:
        return BetaCurves(*np.array(betas).T.copy(), is_mirrored=not maximize)
    if gammas:
        return GammaCurves(*np.array(gammas).T.copy(), is_mirrored=not maximize)
    return LocationCurves(*np.array(locations).T.copy(), is_mirrored=not maximize)
