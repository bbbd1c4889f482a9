"""Definition of a bandit problem: the arms' means over time, the horizon, and the outcomes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bandit.metric import Metric
from benchmarks.regret.problems.rewards import RewardKind, lai_robbins, metric_of

DAYS_OF_WEEK: Final = 7
N_WORKDAYS: Final = 5
_MOST_ARMS: Final = 1_000
_MOST_ROUNDS: Final = 1_000_000_000


class ProblemError(ValueError):
    """{option} {rule}: an option of a problem that can't be simulated."""

    def __init__(self, option: str, rule: str) -> None:
        self.option = option
        self.rule = rule
        super().__init__(f"--{option} {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A bandit problem.

    Attributes:
        means: Mean of each arm; empty if means are drawn.
        means_beta: If not None, each run draws the means of `n_drawn` arms from this Beta(a, b).
        n_drawn: Number of arms whose means are drawn.
        reward: Distribution of outcomes.
        standard_deviation: Standard deviation of Gaussian outcomes.
        horizon: Rounds of a run.
        refresh_every: Rounds between updates of the posteriors, the first being before round 0.
        delay: Further rounds until an outcome, success or failure alike, is known; 0: it is known before the
            next round.
        champion: Index of the arm in production.
        drift: Standard deviation, after all rounds, of a random walk of each mean, which is reflected at the
            bounds of its range.
        switch_at: The round from which `switch_means` hold; None: never.
        switch_means: Means of the arms from `switch_at` on.
        weekend_means: Means of the arms on two days of seven; None: the same as on the others.
        weekly_swing: All means are multiplied by ``1 + weekly_swing sin(2 pi week)``.
        rounds_per_day: Rounds of a day.
        turnover: Probability, in each round, that a new arm with a newly drawn mean replaces one.

    Raises:
        ProblemError: An option is outside its range.
    """

    means: tuple[float, ...] = ()
    means_beta: tuple[float, float] | None = None
    n_drawn: int = 0
    reward: RewardKind = RewardKind.BERNOULLI
    standard_deviation: float = 1.0
    horizon: int = 10_000
    refresh_every: int = 1
    delay: int = 0
    champion: int = 0
    drift: float = 0.0
    switch_at: int | None = None
    switch_means: tuple[float, ...] = ()
    weekend_means: tuple[float, ...] | None = None
    weekly_swing: float = 0.0
    rounds_per_day: int = 500
    turnover: float = 0.0

    def __post_init__(self) -> None:
        self._check_arms()
        self._check_range("horizon", self.horizon, 1, _MOST_ROUNDS)
        self._check_range("refresh-every", self.refresh_every, 1, _MOST_ROUNDS)
        self._check_range("delay", self.delay, 0, _MOST_ROUNDS)
        self._check_range("rounds-per-day", self.rounds_per_day, 1, _MOST_ROUNDS)
        self._check_range("champion", self.champion, 0, self.n_arms - 1)
        if not (math.isfinite(self.standard_deviation) and self.standard_deviation > 0):
            raise ProblemError("sd", f"must be positive and finite, got {self.standard_deviation:g}")
        self._check_changes()
        self._check_means()

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return len(self.means) or self.n_drawn

    @property
    def is_steady(self) -> bool:
        """True if each arm has the same mean in every run and round."""
        return self.means_beta is None and not (
            self.drift or self.switch_at is not None or self.weekend_means or self.weekly_swing
        )

    @property
    def metric(self) -> Metric:
        """The metric that an operator would declare for this problem."""
        every = [mean for means in self._all_means() for mean in means] or [0.0, 1.0]
        return metric_of(
            self.reward, min(every) - self.drift, max(every) + self.drift, self.standard_deviation
        )

    @property
    def lai_robbins(self) -> float | None:
        """Lai & Robbins' constant C; None if means change or are drawn."""
        return lai_robbins(self.reward, self.means, self.standard_deviation) if self.is_steady else None

    def expected_regret(self, shares: Sequence[float]) -> float | None:
        """Return the exact regret of fixed shares; None if means change or are drawn."""
        if not self.is_steady:
            return None
        best = max(self.means)
        cost = math.fsum(share * (best - mean) for share, mean in zip(shares, self.means, strict=True))
        return self.horizon * cost

    def _check_arms(self) -> None:
        if self.means_beta is None and self.n_drawn:
            raise ProblemError("arms", "needs --means-beta, or leave it out and list the means with --means")
        if self.means_beta is not None and self.means:
            raise ProblemError("means-beta", "can't be combined with --means: leave one of them out")
        option = "means" if self.means_beta is None else "arms"
        if not 2 <= self.n_arms <= _MOST_ARMS:  # noqa: PLR2004 - the issue is a choice between two
            raise ProblemError(option, f"must give 2 to {_MOST_ARMS:,} arms, got {self.n_arms}")
        if self.means_beta is not None:
            if not all(math.isfinite(number) and number > 0 for number in self.means_beta):
                raise ProblemError("means-beta", "must be two positive numbers, such as 4,4")
            if self.reward is not RewardKind.BERNOULLI:
                raise ProblemError("means-beta", "draws means in (0, 1), and needs --reward bernoulli")

    def _check_changes(self) -> None:
        for option, number in (("drift", self.drift), ("weekly-swing", self.weekly_swing)):
            if not (math.isfinite(number) and number >= 0):
                raise ProblemError(option, f"must be finite and not negative, got {number:g}")
        if self.weekly_swing > 1:
            raise ProblemError("weekly-swing", f"must be at most 1, got {self.weekly_swing:g}")
        if not 0 <= self.turnover <= 1:
            raise ProblemError("turnover", f"must be a probability in [0, 1], got {self.turnover:g}")
        if self.turnover and self.means_beta is None:
            raise ProblemError("turnover", "needs --means-beta, from which a new arm's mean is drawn")
        if self.switch_at is not None:
            self._check_range("switch-at", self.switch_at, 1, self.horizon - 1)
        elif self.switch_means:
            raise ProblemError("switch-means", "needs --switch-at ROUND")
        if self.means_beta is not None and (self.switch_at is not None or self.weekend_means):
            raise ProblemError("means-beta", "can't be combined with --switch-at or --weekend-means")

    def _check_means(self) -> None:
        swung = 1 + self.weekly_swing
        for option, means in zip(("means", "switch-means", "weekend-means"), self._all_means(), strict=True):
            if means and len(means) != self.n_arms:
                raise ProblemError(
                    option, f"must list as many means as --means ({self.n_arms}), got {len(means)}"
                )
            for mean in means:
                if not math.isfinite(mean):
                    raise ProblemError(option, f"must be finite, got {mean:g}")
                if self.reward is RewardKind.BERNOULLI and not 0 <= mean <= 1:
                    raise ProblemError(option, f"must lie in [0, 1] with --reward bernoulli, got {mean:g}")
                if self.reward is RewardKind.BERNOULLI and mean * swung > 1:
                    rule = f"takes a mean of {mean:g} above 1, got {self.weekly_swing:g}"
                    raise ProblemError("weekly-swing", rule)
                if self.reward is RewardKind.POISSON and not 0 <= mean <= 1e4:  # noqa: PLR2004
                    raise ProblemError(option, f"must lie in [0, 10000] with --reward poisson, got {mean:g}")

    def _all_means(self) -> tuple[tuple[float, ...], ...]:
        return self.means, self.switch_means, self.weekend_means or ()

    @staticmethod
    def _check_range(option: str, number: int, least: int, most: int) -> None:
        if not least <= number <= most:
            raise ProblemError(option, f"must be from {least:,} to {most:,}, got {number:,}")
