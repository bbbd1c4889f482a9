"""Results of matches, and their distance from known answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.regret.blocks import Entrant, Match
from benchmarks.regret.players.contestants import Contestant
from benchmarks.regret.players.peers import PeerContestant
from benchmarks.regret.simulation import Measured

_BAND_ERRORS: Final = 1.96
"""Half the width of a curve's band, in standard errors; it covers 95 % at each point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Expected regret of a match.

    Attributes:
        regret: The expected regret.
        error: Its standard error or rounding; 0 if it is exact, None if unknown.
        source: Its source.
    """

    regret: float
    error: float | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A match and its measurements.

    Attributes:
        title: The problem's name.
        match: The match.
        measured: Its measurements.
        anchor: Its expected regret; None if unknown.
    """

    title: str
    match: Match
    measured: Measured
    anchor: Anchor | None = None

    @property
    def mean(self) -> float:
        """Regret after the horizon, mean over runs."""
        return float(self.measured.regret.mean[-1])

    @property
    def standard_error(self) -> float:
        """Standard error of the mean regret; NaN for a single run."""
        return float(self.measured.regret.standard_error[-1])

    @property
    def share_of_best(self) -> float:
        """Fraction of all rounds that chose a best arm."""
        return float(self.measured.share_of_best.mean[-1])

    @property
    def slope(self) -> float:
        """(R(T) - R(T/10)) / ln 10."""
        return float(self.measured.slope.mean)

    @property
    def errors_off(self) -> float | None:
        """Distance of the mean from its anchor in combined standard errors; None if they are unknown."""
        if self.anchor is None or self.anchor.error is None:
            return None
        gap = self.mean - self.anchor.regret
        combined = math.hypot(self.standard_error, self.anchor.error)
        # A policy without variance differs from its anchor by rounding, or really.
        return gap / combined if combined > 0 else 0.0 if math.isclose(gap, 0.0, abs_tol=1e-6) else math.inf


def exact_anchor(match: Match) -> Anchor | None:
    """Return the exact regret of fixed shares if means are constant; None for any other match."""
    if not isinstance(match.entrant, Contestant):
        return None
    shares = match.entrant.fixed_shares(match.problem)
    expected = None if shares is None else match.problem.expected_regret(shares)
    return None if expected is None else Anchor(regret=expected, error=0.0, source="exact")


def ours_as_anchor(results: Sequence[Result], entrant: Entrant) -> Anchor | None:
    """Return the regret of this library's policy of the same kind, for one of another library; else None."""
    if not isinstance(entrant, PeerContestant):
        return None
    for result in results:
        if result.match.entrant.label == entrant.ours:
            return Anchor(regret=result.mean, error=result.standard_error, source="ours")
    return None


def to_json(result: Result, *, has_curve: bool) -> dict[str, object]:
    """Return the result as a JSON object; numbers that JSON does not have become None."""
    problem, measured = result.match.problem, result.measured
    document: dict[str, object] = {
        "problem": result.title,
        "policy": result.match.entrant.label,
        "mean": result.mean,
        "standard_error": _finite(result.standard_error),
        "runs": measured.regret.n,
        "horizon": problem.horizon,
        "share_of_best": result.share_of_best,
        "share_of_best_standard_error": _finite(float(measured.share_of_best.standard_error[-1])),
        "slope": result.slope,
        "slope_standard_error": _finite(float(measured.slope.standard_error)),
        "lai_robbins": None if problem.lai_robbins is None else _finite(problem.lai_robbins),
        "anchor": None,
        "seed": result.match.seed,
        "means": list(problem.means) or None,
        "reward": problem.reward.value,
        "refresh_every": problem.refresh_every,
        "delay": problem.delay,
        "champion": problem.champion,
    }
    if result.anchor is not None:
        document["anchor"] = {
            "regret": result.anchor.regret,
            "source": result.anchor.source,
            "standard_errors_off": None if result.errors_off is None else _finite(result.errors_off),
        }
    if has_curve:
        document["curve"] = _curve(measured)
    return document


def _curve(measured: Measured) -> dict[str, list[int] | list[float | None]]:
    means = measured.regret.mean.tolist()
    errors = measured.regret.standard_error.tolist()
    band = [_BAND_ERRORS * error for error in errors]
    return {
        "round": list(measured.checkpoints),
        "mean": means,
        "standard_error": [_finite(error) for error in errors],
        "lower": [_finite(mean - half) for mean, half in zip(means, band, strict=True)],
        "upper": [_finite(mean + half) for mean, half in zip(means, band, strict=True)],
        "share_of_best": measured.share_of_best.mean.tolist(),
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
