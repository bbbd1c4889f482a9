"""Densities of posteriors, for plots."""

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

from bandit.posteriors import (
    BetaPosterior,
    GammaPosterior,
    NormalPosterior,
    Posterior,
    StudentTPosterior,
)
from bandit.v1 import evidence_pb2

FloatArray = NDArray[np.float64]
_TAIL = 1e-3
_N_POINTS = 240


def density_of(message: evidence_pb2.Posterior) -> tuple[FloatArray, FloatArray]:
    """Values, from the .001 to the .999 quantile, and the mean density about each: both of shape (n_points,).

    From differences of the distribution function, so that a density without bounds stays a number.
    """
    belief, distribution = _parts(message)
    ends = np.linspace(belief.quantile(_TAIL), belief.quantile(1 - _TAIL), _N_POINTS + 1)
    widths = np.maximum(np.diff(ends), np.finfo(float).tiny)
    return (ends[1:] + ends[:-1]) / 2, np.diff(distribution(ends)) / widths


def _parts(message: evidence_pb2.Posterior) -> tuple[Posterior, Callable[[FloatArray], FloatArray]]:
    """The posterior, and its distribution function."""
    match message.WhichOneof("kind"):
        case "normal":
            normal = message.normal
            return NormalPosterior(normal.mean, normal.sd), lambda x: scipy.special.ndtr(
                (x - normal.mean) / normal.sd
            )
        case "student_t":
            t = message.student_t
            return StudentTPosterior(t.mean, t.scale, t.df), lambda x: scipy.special.stdtr(
                t.df, (x - t.mean) / t.scale
            )
        case "gamma":
            gamma = message.gamma
            return GammaPosterior(gamma.shape, gamma.rate), lambda x: scipy.special.gammainc(
                gamma.shape, x * gamma.rate
            )
        case _:
            beta = message.beta
            return BetaPosterior(beta.alpha, beta.beta), lambda x: scipy.special.betainc(
                beta.alpha, beta.beta, x
            )
