"""Sentences about the evidence on one metric: each challenger against the champion."""

from collections.abc import Iterator, Mapping
from math import exp, isfinite
from typing import Final

from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.means import MeanEstimate
from bandit.inference.sequential.response import Response
from bandit.inference.verdict.assessment import MetricEvidence
from bandit.inference.verdict.claims import ChallengerEvidence, Claim
from server.services.reports.evidence import EvidenceSummary
from server.wording import counted, digits_for, margin_text, shown_difference, signed_percent

_FEW: Final = 5
_MOST_SENTENCES: Final = 20
_MOST_LOG: Final = 700.0


class MetricSentences:
    """The sentences about one metric.

    Args:
        evidence: The evidence on the metric.
        summary: All evidence.
        arm_ids: Arm number to id.
    """

    def __init__(
        self, evidence: MetricEvidence, summary: EvidenceSummary, arm_ids: Mapping[int, str]
    ) -> None:
        self._evidence = evidence
        self._name = evidence.metric.name
        self._unit = summary.unit
        self._arm_ids = arm_ids
        self._champion = arm_ids[summary.assessment.champion]

    def all(self) -> Iterator[str]:
        """Yield a sentence for each challenger; if there are many, for those with a finding and the rest.

        What can't be said is said once, beside the reason: not here.
        """
        compared = [
            challenger
            for challenger in self._evidence.challengers.values()
            if isinstance(challenger.comparison, Comparison)
            or isinstance(challenger.harm, Claim)
            or isinstance(challenger.signal, SignalState)
        ]
        ranked = sorted(compared, key=_least_p_value)
        n_found = sum(_has_finding(challenger) for challenger in ranked)
        n_shown = len(ranked) if len(ranked) <= _FEW else min(n_found, _MOST_SENTENCES)
        for challenger in ranked[:n_shown]:
            yield from self._about(challenger)
        if _is_answered_in_part(self._evidence):
            which = f"evidence is about answered {counted(self._unit)} only, since silence is ignored"
            doubt = "a silence that depends on both outcome and arm looks like a difference"
            yield f"{self._name}: {which}; {doubt}."
        n_more, n_silent = max(n_found - n_shown, 0), len(ranked) - max(n_found, n_shown)
        if n_more:
            yield f"{self._name}: {n_more:,} more challengers are established as better or worse."
        if n_silent:
            others = "others are" if n_found else "challengers are"
            finding = f"not established as better or worse than {self._champion}"
            yield f"{self._name}: {n_silent:,} {others} {finding}."

    def _about(self, challenger: ChallengerEvidence) -> Iterator[str]:
        arm = self._arm_ids[challenger.arm]
        if isinstance(challenger.comparison, Comparison):
            yield f"{self._name}: {self._finding(challenger, arm)}; {self._sizes(challenger.comparison)}."
        for sentence in (self._harm(challenger, arm), self._signal(challenger, arm)):
            if sentence:
                yield f"{self._name}: {sentence}."

    def _harm(self, challenger: ChallengerEvidence, arm: str) -> str:
        """Return that an arm does harm, or whether it stays within the margin; empty if neither is asked."""
        harm, within, margin = challenger.harm, challenger.not_worse, self._evidence.metric.worse_by
        much = "" if margin is None else f"worse than {self._champion} by more than {margin_text(margin)}"
        if isinstance(harm, Claim) and harm.is_established:
            what = f"does harm: it is {much}" if much else "does harm"
            return f"{arm} {what} ({_strength(harm)}{_early(harm)})"
        if not isinstance(within, Claim):
            return ""
        if within.is_established:
            return f"{arm} is not {much} ({_strength(within)}{self._since(within)})"
        return f"whether {arm} is {much} is not established (p {within.p_value:.2g} for not worse)"

    def _signal(self, challenger: ChallengerEvidence, arm: str) -> str:
        """Return whether the signal is on for an arm; empty if the metric is no signal."""
        state = challenger.signal
        if not isinstance(state, SignalState):
            return ""
        e_value, threshold = (
            f"{exp(min(log, _MOST_LOG)):.3g}" for log in (state.log_e_value, state.log_threshold)
        )
        times = f", {state.n_pauses} times so far" if state.n_pauses > 1 else ""
        if state.since_row is None:
            return f"the signal is off for {arm} (e-value {e_value}, on from {threshold})"
        epoch = self._evidence.row_epochs[state.since_row]
        since = f"since epoch {epoch.number}, begun {epoch.started_at:%Y-%m-%d %H:%M} UTC"
        if not state.is_held:
            return (
                f"the signal is off for {arm} again {since}{times} (e-value {e_value}, on from {threshold})"
            )
        hold = "hold the arm where it is"
        return f"the signal is on for {arm} {since}{times}: {hold} (e-value {e_value}, off from {threshold})"

    def _finding(self, challenger: ChallengerEvidence, arm: str) -> str:
        """Return what is established now, and what was at an earlier look."""
        directions = {"better": challenger.better, "worse": challenger.worse}
        claims = {name: claim for name, claim in directions.items() if isinstance(claim, Claim)}
        found = [
            f"{name} ({_strength(claim)}{self._since(claim)})"
            for name, claim in claims.items()
            if claim.is_established
        ]
        lapsed = [name for name, claim in claims.items() if claim.is_lapsed]
        text = (
            f"{arm} is {' and '.join(found)} than {self._champion}"
            if found
            else f"whether {arm} is better or worse than {self._champion} is not established "
            f"(p {min(claim.p_value for claim in claims.values()):.2g})"
        )
        once = f", though at an earlier look it was established as {' and '.join(lapsed)}" if lapsed else ""
        return text + once

    def _since(self, claim: Claim) -> str:
        """Return when a claim was first established."""
        first = claim.first_established
        return "" if first is None else f", first on {self._evidence.row_ends[first]:%Y-%m-%d %H:%M} UTC"

    def _sizes(self, comparison: Comparison) -> str:
        """Return both means, their difference and relative change, with the bounds of both."""
        lower, upper = comparison.interval.lower, comparison.interval.upper
        digits = digits_for(comparison.standard_error, upper - lower)
        difference = shown_difference(comparison.mean, comparison.champion_mean, digits)
        means = f"{comparison.mean:,.{digits}f} against {comparison.champion_mean:,.{digits}f}"
        bounds = f"{lower:+,.{digits}f} to {upper:+,.{digits}f}"
        parts = [
            f"{means} a {self._unit}, difference {difference:+,.{digits}f} ({bounds})",
            _relative(comparison, self._champion),
        ]
        if comparison.approximate is not None:
            near = comparison.approximate
            parts.append(
                f"roughly {near.lower:+,.{digits}f} to {near.upper:+,.{digits}f} by an approximate interval, "
                "from which nothing is concluded (the metric's range is more than 30 standard deviations)"
            )
        return ", ".join(parts)


def _relative(comparison: Comparison, champion: str) -> str:
    """Return the relative change with its bounds, or why there is none."""
    if isinstance(comparison.lift, CannotSay) or comparison.relative is None:
        is_zero = comparison.lift == CannotSay(Reason.CHAMPION_AT_ZERO)
        return "no relative change" + (f", since the mean of {champion} is 0" if is_zero else "")
    upper = signed_percent(comparison.lift.upper) if isfinite(comparison.lift.upper) else "no bound"
    return (
        f"relative {signed_percent(comparison.relative)} ({signed_percent(comparison.lift.lower)} to {upper})"
    )


def _is_answered_in_part(evidence: MetricEvidence) -> bool:
    """True if there is evidence that leaves out decisions without an outcome."""
    if evidence.metric.default_value is not None or not isinstance(evidence.response, Response):
        return False
    has_estimate = any(isinstance(mean, MeanEstimate) for mean in evidence.means.values())
    return has_estimate and any(arm.outcomes < arm.decisions for arm in evidence.response.arms.values())


def _least_p_value(challenger: ChallengerEvidence) -> float:
    return min((claim.p_value for claim in challenger.claims), default=1.0)


def _has_finding(challenger: ChallengerEvidence) -> bool:
    if isinstance(challenger.signal, SignalState) and challenger.signal.is_held:
        return True
    return any(
        isinstance(claim, Claim) and (claim.is_established or claim.is_lapsed)
        for claim in (challenger.better, challenger.worse, challenger.harm)
    )


def _strength(claim: Claim) -> str:
    return f"p {claim.p_value:.2g}, e-value {claim.process.value:.3g}"


def _early(claim: Claim) -> str:
    """Return the caution for a finding in open epochs, if it is one."""
    return (
        "; so far in open epochs: events that are only reported sooner look the same"
        if claim.is_early
        else ""
    )
