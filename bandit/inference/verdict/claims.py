"""Claims about a challenger on a metric: that it is better, worse, does harm, or is within the margin."""

import enum
from dataclasses import dataclass, field, replace
from math import exp, log
from typing import Final

from bandit.inference.harm.margins import MarginEvidence
from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.results import EProcess, RowwiseProcess
from bandit.metric import Metric

ALPHA: Final = 0.05
"""Error rate of every test family and of each interval."""

N_DIRECTIONS: Final = 2
"""Better, and worse."""


class TestKind(enum.StrEnum):
    """The e-process behind a claim."""

    __test__ = False  # pytest would collect a class of this name

    CENTRED_ODDS = "centred odds"
    BOUNDED_SCORES = "bounded scores"
    ODDS = "odds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Evidence for one statement about a challenger.

    Its status and p-value follow from the e-value now, as the interval beside them does. The largest e-value
    so far only says when it was first established.

    Attributes:
        test: The e-process behind it.
        process: Evidence against "it is not so".
        rows: The rows of the table at which the process is looked at, ascending; empty if it is a single look
            over open epochs as well.
        n_tests: Number of claims that share the error rate `ALPHA`.
        is_early: True if the claim depends on events of epochs that are still open: an arm whose events are
            only reported sooner looks the same until the others' are in.
    """

    test: TestKind
    process: EProcess
    n_tests: int
    rows: tuple[int, ...] = field(default=(), repr=False)
    is_early: bool = False

    @property
    def log_level(self) -> float:
        """Ln of the e-value at which it is established."""
        return log(self.n_tests / ALPHA)

    @property
    def p_value(self) -> float:
        """The p-value now, adjusted for the number of claims (Bonferroni), in (0, 1]."""
        return min(1.0, self.n_tests * exp(-min(max(self.process.log_value, 0.0), _LARGEST_LOG)))

    @property
    def is_established(self) -> bool:
        """True if it is established now."""
        return self.process.log_value >= self.log_level

    @property
    def first_established(self) -> int | None:
        """The row of the table after which it was established for the first time; None if it never was.

        Harm in open epochs has no rows, since events do not arrive in their order.
        """
        if not self.rows:
            return None
        values = zip(self.rows, self.process.log_values, strict=True)
        return next((row for row, value in values if value >= self.log_level), None)

    @property
    def is_lapsed(self) -> bool:
        """True if it was established at an earlier look and no longer is."""
        return not self.is_established and self.process.log_maximum >= self.log_level


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengerEvidence:
    """One challenger against the champion on one metric.

    Attributes:
        arm: Number of the challenger.
        comparison: Both means, their difference and bounds; or why they can't be compared.
        better: The claim that it is better.
        worse: The claim that it is worse.
        harm: The claim that it does harm, on a guardrail: that it is worse, by more than the margin if there
            is one; over open epochs as well if an event does harm. None where the metric is no guardrail.
        not_worse: The claim that it is not worse by more than the margin. None where there is no margin.
        signal: Whether the metric holds the challenger. None where it is no signal.
    """

    arm: int
    comparison: Comparison | CannotSay
    better: Claim | CannotSay
    worse: Claim | CannotSay
    harm: Claim | CannotSay | None = None
    not_worse: Claim | CannotSay | None = None
    signal: SignalState | CannotSay | None = None

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of better and worse that could be tested."""
        return tuple(claim for claim in (self.better, self.worse) if isinstance(claim, Claim))


def evidence_on(
    arm: int,
    metric: Metric,
    comparison: Comparison | CannotSay,
    *,
    n_challengers: int,
    open_harm: EProcess | CannotSay | None,
    n_harms: int,
    margin: MarginEvidence | None = None,
    signal: SignalState | CannotSay | None = None,
) -> ChallengerEvidence:
    """Return the evidence about one challenger.

    Args:
        arm: Number of the challenger.
        metric: The metric.
        comparison: The comparison with the champion.
        n_challengers: Challengers that the experiment ever had.
        open_harm: Evidence of harm including open epochs; None if open epochs are not looked at.
        n_harms: Guardrails times challengers: the claims of harm that share an error rate.
        margin: Evidence about the metric's margin; None if it has none.
        signal: The state of the signal; None if the metric is none.
    """
    n_tests = N_DIRECTIONS * n_challengers
    better, worse = (_claim(comparison, metric, n_tests, is_better=is_better) for is_better in (True, False))
    # At the level of both directions, so that "not worse" agrees with the interval of the relative change.
    beyond = worse if margin is None else _about_margin(margin.beyond, metric, n_tests)
    harm = None
    if metric.is_guardrail:
        harm = _at(beyond, n_harms) if open_harm is None else _harmed(open_harm, beyond, n_harms)
    return ChallengerEvidence(
        arm=arm,
        comparison=comparison,
        better=better,
        worse=worse,
        harm=harm,
        not_worse=None if margin is None else _about_margin(margin.within, metric, n_tests),
        signal=signal,
    )


def _claim(
    comparison: Comparison | CannotSay, metric: Metric, n_tests: int, *, is_better: bool
) -> Claim | CannotSay:
    if isinstance(comparison, CannotSay):
        return comparison
    return Claim(
        test=_closed_test(metric),
        process=comparison.better if is_better else comparison.worse,
        n_tests=n_tests,
        rows=comparison.rows,
    )


def _about_margin(found: RowwiseProcess | CannotSay, metric: Metric, n_tests: int) -> Claim | CannotSay:
    if isinstance(found, CannotSay):
        return found
    return Claim(test=_closed_test(metric), process=found.process(), n_tests=n_tests, rows=found.rows)


def _closed_test(metric: Metric) -> TestKind:
    """Return the test of closed epochs."""
    return TestKind.CENTRED_ODDS if metric.is_binary else TestKind.BOUNDED_SCORES


def _at(claim: Claim | CannotSay, n_tests: int) -> Claim | CannotSay:
    """Return a claim as one of another number of claims."""
    return claim if isinstance(claim, CannotSay) else replace(claim, n_tests=n_tests)


def _harmed(process: EProcess | CannotSay, closed: Claim | CannotSay, n_harms: int) -> Claim | CannotSay:
    """Return the claim of harm over all events so far as one row; it is early until closed epochs show it.

    While epochs are open, events do not arrive in the order of epochs. The value over all events is the same
    in order of arrival; a maximum over rows would not be.
    """
    if isinstance(process, CannotSay):
        return process
    is_settled = isinstance(closed, Claim) and closed.is_established
    return Claim(
        test=TestKind.ODDS, process=EProcess((process.log_value,)), n_tests=n_harms, is_early=not is_settled
    )


_LARGEST_LOG = 700.0
