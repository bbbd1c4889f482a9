"""Claims about a challenger on a metric: the tests that apply, combined into one claim per direction."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.aipw import Comparison
from bandit.inference.sequential.multiplicity import holm, mean_process
from bandit.inference.sequential.odds import OddsComparison
from bandit.inference.sequential.results import EProcess, Interval
from bandit.metric import Direction, Metric

ALPHA: Final = 0.05
"""Error rate of every test family and of each interval."""

BOTH: Final = (True, False)
"""Both directions: better, worse."""

_N_MIXED: Final = 2
"""Number of mixed tests: AIPW and odds."""


class TestKind(enum.StrEnum):
    """The e-process behind a claim."""

    __test__ = False  # pytest would collect a class of this name

    AIPW = "aipw"
    ODDS = "odds"
    MEAN = "mean of aipw and odds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Evidence for one direction: the challenger is better, or it is worse.

    Attributes:
        test: The e-process behind it.
        process: Evidence against "it is not".
        p_value: Anytime-valid and adjusted by Holm over challengers and directions, in (0, 1].
        is_contradicted: True if the AIPW difference over all decisions so far lies on the other side of 0.
        is_early: True if the claim depends on events of epochs that are still open: an arm whose events are
            only reported sooner looks the same until the others' are in.
    """

    test: TestKind
    process: EProcess
    p_value: float
    is_contradicted: bool = False
    is_early: bool = False

    @property
    def is_lapsed(self) -> bool:
        """True if all decisions so far, taken together, do not support the claim.

        A p-value is the smallest so far. Under a drift that arms don't share, an earlier look may have been
        right about its own past and now be out of date; and the odds test may find a ratio above 1 in some
        epochs although the difference over all of them has the other sign.
        """
        return self.is_contradicted or self.process.log_value < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengerEvidence:
    """One challenger against the champion on one metric.

    Attributes:
        arm: Number of the challenger.
        difference: Challenger minus champion, with bounds.
        lift: Bounds of the relative lift.
        better: The claim that it is better.
        worse: The claim that it is worse.
    """

    arm: int
    difference: Comparison | CannotSay
    lift: Interval | CannotSay
    better: Claim | CannotSay
    worse: Claim | CannotSay


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A challenger and the champion on one metric, under every test that applies.

    Attributes:
        metric: The metric.
        difference: The comparison by AIPW.
        odds: The comparison by conditional odds.
        lift: Bounds of the relative lift.
        harm: Evidence of harm including open epochs; None if open epochs are not looked at.
    """

    metric: Metric
    difference: Comparison | CannotSay
    odds: OddsComparison | CannotSay
    lift: Interval | CannotSay
    harm: EProcess | CannotSay | None

    def claim(self, *, is_better: bool) -> Claim | CannotSay:
        """Return the claim of one direction, or why it is missing."""
        return self._better() if is_better else self._worse()

    def _better(self) -> Claim | CannotSay:
        aipw = self.difference if isinstance(self.difference, CannotSay) else self.difference.better
        odds = self.odds if isinstance(self.odds, CannotSay) else self.odds.better
        return self._joined(aipw, odds, is_contradicted=self._gain() < 0)

    def _worse(self) -> Claim | CannotSay:
        if self.harm is not None:
            return self.harm if isinstance(self.harm, CannotSay) else self._harmed(self.harm)
        aipw = self.difference if isinstance(self.difference, CannotSay) else self.difference.worse
        odds = self.odds if isinstance(self.odds, CannotSay) else self.odds.worse
        return self._joined(aipw, odds, is_contradicted=self._gain() > 0)

    def _harmed(self, process: EProcess) -> Claim:
        """Return the claim over all events so far as one row.

        While epochs are open, events do not arrive in the order of epochs. The value over all events is the
        same in order of arrival; a maximum over rows would not be.
        """
        claim = _claim(TestKind.ODDS, EProcess((process.log_value,)))
        is_settled = isinstance(self.odds, OddsComparison) and self.odds.worse.rejects(ALPHA)
        return replace(claim, is_early=not is_settled)

    def _gain(self) -> float:
        """Return the estimated difference, positive if the challenger is better; 0 if it is missing."""
        if isinstance(self.difference, CannotSay):
            return 0.0
        return self.difference.difference * (1 if self.metric.direction is Direction.MAXIMIZE else -1)

    def _joined(
        self, aipw: EProcess | CannotSay, odds: EProcess | CannotSay, *, is_contradicted: bool
    ) -> Claim | CannotSay:
        """Return the claim by the test that the metric's declaration calls for."""
        if isinstance(odds, CannotSay) and odds.reason is Reason.NOT_YES_NO:
            found, test = aipw, TestKind.AIPW
        elif self.metric.is_guardrail:
            found, test = odds, TestKind.ODDS
        else:
            found, test = _mean(aipw, odds), TestKind.MEAN
        return found if isinstance(found, CannotSay) else _claim(test, found, is_contradicted=is_contradicted)


def _mean(aipw: EProcess | CannotSay, odds: EProcess | CannotSay) -> EProcess | CannotSay:
    """Return the mean of both processes; a missing one counts as E = 1."""
    present = [process for process in (aipw, odds) if isinstance(process, EProcess)]
    if isinstance(aipw, CannotSay) and not present:
        return aipw
    missing = EProcess((0.0,) * len(present[0].log_values))
    return mean_process([*present, missing][:_N_MIXED])


def _claim(test: TestKind, process: EProcess, *, is_contradicted: bool = False) -> Claim:
    return Claim(test=test, process=process, p_value=process.p_value, is_contradicted=is_contradicted)


def adjusted(
    claims: Mapping[tuple[int, bool], Claim | CannotSay],
) -> dict[tuple[int, bool], Claim | CannotSay]:
    """Return the claims with p-values adjusted by Holm over all of them; a missing claim counts as 1."""
    p_values = holm(
        {key: 1.0 if isinstance(claim, CannotSay) else claim.p_value for key, claim in claims.items()}
    )
    return {
        key: claim if isinstance(claim, CannotSay) else replace(claim, p_value=p_values[key])
        for key, claim in claims.items()
    }
