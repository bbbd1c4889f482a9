"""The verdict and the outlook in words: first evidence, then beliefs."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Final

from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.aipw import Comparison, MeanEstimate
from bandit.inference.sequential.off_policy import SplitValue
from bandit.inference.sequential.response import Response
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Advice, Rules, Ruling
from bandit.inference.verdict.assessment import MetricEvidence
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, Claim
from server.services.reports.evidence import EvidenceSummary, Outlook
from server.services.reports.values import ArmReport, Verdict
from server.wording import percent, signed_percent, split_name

_MOST_DAYS: Final = 3_650
_FEW: Final = 5
_MOST_SENTENCES: Final = 20
_CHECK: Final = "Look at assignment and counting first: decisions do not follow the shares."
_NO_FINDING: Final = (
    "No finding is given for any arm or static split: every estimate divides by the shares, and decisions do "
    "not follow them."
)
_NO_BELIEF: Final = "Beliefs count the same decisions, so they can't be trusted either."


def verdict_on(evidence: EvidenceSummary, arm_ids: Mapping[int, str], arms: Sequence[ArmReport]) -> Verdict:
    """Return the verdict on an experiment.

    Args:
        evidence: The evidence, and the ruling on it.
        arm_ids: Arm number to id.
        arms: The arms with their beliefs.
    """
    probability_best = {arm.arm: arm.probability_best for arm in arms if arm.probability_best is not None}
    expected_losses = {arm.arm: arm.expected_loss for arm in arms if arm.expected_loss is not None}
    if evidence.assessment.is_alarming:
        return Verdict(
            headline=_alarm(evidence.ruling, arm_ids),
            evidence=(_about_sample_ratio(evidence.assessment.sample_ratio, arm_ids), _NO_FINDING),
            belief=(_NO_BELIEF,),
        )
    return Verdict(
        headline=_headline(evidence, arm_ids, probability_best),
        evidence=tuple(_evidence(evidence, arm_ids)),
        belief=tuple(_beliefs(probability_best, expected_losses)),
    )


def _alarm(ruling: Ruling, arm_ids: Mapping[int, str]) -> str:
    """Return the headline while decisions do not follow the shares, with the arm to take out, if any."""
    if ruling.arm is None:
        return f"{_CHECK} No number of this report is fit for a decision until the cause is found."
    return (
        f"{_CHECK} Take {arm_ids[ruling.arm]} out meanwhile, as a precaution: {ruling.metric} gives cause, "
        "though no number of this report can be trusted until then."
    )


def _headline(
    evidence: EvidenceSummary, arm_ids: Mapping[int, str], probability_best: Mapping[str, float]
) -> str:
    ruling, rules = evidence.ruling, Rules()
    arm, best = "" if ruling.arm is None else arm_ids[ruling.arm], arm_ids[evidence.assessment.champion]
    has_guardrail = any(other.metric.is_guardrail for other in evidence.assessment.others.values())
    harmless = (
        "no guardrail speaks against it" if has_guardrail else "there is no guardrail to speak against it"
    )
    if ruling.advice is Advice.WAIT:
        return f"Wait: {_why_wait(evidence, arm_ids, probability_best)}."
    return {
        Advice.ROLL_BACK: f"Take {arm} out: {ruling.metric} is worse than under {best}.",
        Advice.TRIP: f"Take {arm} out now and look: {ruling.metric} came at {rules.trip_ratio:g} times the "
        f"rate of {best} or more. This is a fuse, not a finding.",
        Advice.CHECK: _CHECK,
        Advice.PROMOTE: f"Promote {arm}: it is better than {best}, and {harmless}.",
        Advice.RETIRE: f"End the experiment with {best}: what another arm could still win is believed to be "
        "negligible.",
    }[ruling.advice]


def _why_wait(
    evidence: EvidenceSummary, arm_ids: Mapping[int, str], probability_best: Mapping[str, float]
) -> str:
    """Return what promotion waits for; it never contradicts the evidence below it."""
    rules, champion = Rules(), arm_ids[evidence.assessment.champion]
    n_weeks = evidence.ruling.cycles
    if n_weeks < rules.least_cycles:
        return f"nothing is promoted before {rules.least_cycles} whole weeks ({n_weeks} so far)"
    found = [
        (arm_ids[arm], challenger.better)
        for arm, challenger in evidence.assessment.reward.challengers.items()
        if isinstance(challenger.better, Claim) and challenger.better.p_value <= ALPHA
    ]
    if not found:
        return "no challenger is established as better, and no guardrail has fired"
    arm, claim = min(found, key=lambda each: (each[1].is_lapsed, each[1].p_value))
    if claim.is_lapsed:
        return (
            f"{arm} was better than {champion} at an earlier look, and no longer is over all decisions so far"
        )
    if probability_best.get(arm, 0.0) < rules.least_probability:
        return f"{arm} is better than {champion}, and is not believed to be the best arm"
    return f"{arm} is better than {champion}, but has not shown it where a whole week ends"


def _evidence(evidence: EvidenceSummary, arm_ids: Mapping[int, str]) -> Iterator[str]:
    assessment = evidence.assessment
    champion = arm_ids[assessment.champion]
    for metric in (assessment.reward, *assessment.others.values()):
        yield from _about_metric(metric, champion, arm_ids)
    if assessment.others:
        yield _about_error_rates(1 + len(assessment.others))
    yield _about_sample_ratio(assessment.sample_ratio, arm_ids)
    for value, split in zip(assessment.splits, evidence.splits, strict=True):
        yield _about_split(value, split, arm_ids)


def _about_error_rates(n_metrics: int) -> str:
    """Return the error rates; Holm is over the challengers and directions of a metric, not over metrics."""
    together = f"{min(n_metrics * ALPHA, 1):.2g} for a false finding on any of the {n_metrics}"
    return f"Error rates: at most {ALPHA:g} for each metric by itself, so at most {together}."


def _about_metric(evidence: MetricEvidence, champion: str, arm_ids: Mapping[int, str]) -> Iterator[str]:
    """Yield a sentence for each challenger; if there are many, for those with a finding and the rest."""
    challengers = sorted(evidence.challengers.values(), key=_least_p_value)
    n_found = sum(_least_p_value(challenger) <= ALPHA for challenger in challengers)
    n_shown = len(challengers) if len(challengers) <= _FEW else min(n_found, _MOST_SENTENCES)
    for challenger in challengers[:n_shown]:
        yield _about(evidence, challenger, arm_ids[challenger.arm], champion)
    if challengers and _is_answered_in_part(evidence):
        which = "evidence is about answered decisions only, since silence is ignored"
        doubt = "a silence that depends on both outcome and arm looks like a difference"
        yield f"{evidence.metric.name}: {which}; {doubt}."
    n_silent, n_more = len(challengers) - max(n_found, n_shown), max(n_found - n_shown, 0)
    if n_more:
        yield f"{evidence.metric.name}: {n_more:,} more challengers are established as better or worse."
    if n_silent:
        others = "others are" if n_found else "challengers are"
        finding = f"not established as better or worse than {champion}"
        yield f"{evidence.metric.name}: {n_silent:,} {others} {finding}."


def _is_answered_in_part(evidence: MetricEvidence) -> bool:
    """True if there is evidence that leaves out decisions without an outcome."""
    if evidence.metric.default_value is not None or not isinstance(evidence.response, Response):
        return False
    has_estimate = any(isinstance(mean, MeanEstimate) for mean in evidence.means.values())
    return has_estimate and any(arm.outcomes < arm.decisions for arm in evidence.response.arms.values())


def _least_p_value(challenger: ChallengerEvidence) -> float:
    claims = [claim for claim in (challenger.better, challenger.worse) if isinstance(claim, Claim)]
    return min((claim.p_value for claim in claims), default=1.0)


def _about(evidence: MetricEvidence, challenger: ChallengerEvidence, arm: str, champion: str) -> str:
    name = evidence.metric.name
    parts = [
        f"{_verb(claim)} {direction} "
        f"({_e_values(claim)}, anytime p {claim.p_value:.2g} after Holm{_early(claim)})"
        for direction, claim in (("better", challenger.better), ("worse", challenger.worse))
        if isinstance(claim, Claim) and claim.p_value <= ALPHA
    ]
    finding = f"{name}: {arm} {' and '.join(parts)} than {champion}" if parts else ""
    if not finding:
        finding = f"{name}: whether {arm} is better or worse than {champion} is not established"
        claims = [claim for claim in (challenger.better, challenger.worse) if isinstance(claim, Claim)]
        if not claims and isinstance(challenger.better, CannotSay):
            why = challenger.better.explanation
            return f"{name}: nothing can be said about {arm} against {champion}: {why}."
    bounds = [text for text in (_difference(challenger), _lift(challenger)) if text]
    return f"{finding}; {', '.join(bounds)}." if bounds else f"{finding}."


def _verb(claim: Claim) -> str:
    """Return the verb in the present or past: all decisions so far may not confirm an earlier finding."""
    return "was at an earlier look, but no longer is over all decisions so far," if claim.is_lapsed else "is"


def _early(claim: Claim) -> str:
    """Return the caution for a finding in open epochs, if it is one."""
    return (
        "; so far in open epochs: events that are only reported sooner look the same"
        if claim.is_early
        else ""
    )


def _difference(challenger: ChallengerEvidence) -> str:
    if not isinstance(challenger.difference, Comparison):
        return ""
    interval = challenger.difference.interval
    return f"difference {interval.lower:+.4g} to {interval.upper:+.4g}"


def _lift(challenger: ChallengerEvidence) -> str:
    if not isinstance(challenger.lift, Interval):
        return ""
    upper = signed_percent(challenger.lift.upper) if isfinite(challenger.lift.upper) else "no bound"
    return f"relative {signed_percent(challenger.lift.lower)} to {upper}"


def _e_values(claim: Claim) -> str:
    """Return the e-value now, and the largest so far if it differs, since the p-value comes from that."""
    process = claim.process
    if process.log_maximum <= process.log_value:
        return f"e-value {process.value:.3g}"
    return f"e-value {process.value:.3g} now, {process.largest:.3g} at most"


def _about_sample_ratio(check: SampleRatio | CannotSay, arm_ids: Mapping[int, str]) -> str:
    if isinstance(check, CannotSay):
        return f"Sample ratio mismatch (SRM) can't be checked: {check.explanation}."
    found = f"anytime p {check.process.p_value:.2g}"
    deviations = {arm: z for arm, z in check.z.items() if z is not None}
    if deviations:
        arm = max(deviations, key=lambda each: abs(deviations[each]))
        counts = f"{check.observed[arm]:,} decisions, {check.expected[arm]:,.0f} by its shares"
        found += f"; furthest is {arm_ids[arm]}: {counts}, z {deviations[arm]:+.1f}"
    if check.is_alarming():
        return f"Sample ratio mismatch (SRM): decisions do not follow the shares ({found})."
    return f"No sample ratio mismatch (SRM): decisions follow the shares ({found})."


def _about_split(
    value: SplitValue | CannotSay, split: Mapping[int, float], arm_ids: Mapping[int, str]
) -> str:
    name = split_name({arm_ids[arm]: weight for arm, weight in split.items()})
    if isinstance(value, CannotSay):
        return f"A fixed split {name}: its value can't be estimated: {value.explanation}."
    gain = f"{value.gain:+.4g} ± {value.gain_standard_error:.2g}"
    bounds = f"{value.gain_interval.lower:+.4g} to {value.gain_interval.upper:+.4g} at any look"
    return (
        f"A fixed split {name} would have earned {value.value:.4g} ± {value.standard_error:.2g} a decision; "
        f"the bandit earned {value.earned:.4g}, a gain of {gain} ({bounds})."
    )


def _beliefs(probability_best: Mapping[str, float], expected_losses: Mapping[str, float]) -> Iterator[str]:
    ranked = sorted(probability_best.items(), key=lambda item: -item[1])
    for arm, probability in ranked[:_FEW]:
        loss = f", expected loss {expected_losses[arm]:.2g} a decision" if arm in expected_losses else ""
        yield f"{arm} is best with probability {percent(probability)}{loss}."
    if len(ranked) > _FEW:
        yield f"{len(ranked) - _FEW:,} other arms: each is best with at most {percent(ranked[_FEW][1])}."


def outlook_text(outlook: Outlook) -> str:
    """Return the outlook in a sentence."""
    lift = f"a lift of {signed_percent(outlook.lift)}"
    if isinstance(outlook.forecast, CannotSay):
        return f"When {lift} would be seen can't be said: {outlook.forecast.explanation}."
    half, most = outlook.forecast.days_at_half, outlook.forecast.days_at_most
    traffic = f"at {outlook.decisions_per_day:,.0f} decisions a day and the declared floors"
    if half > _MOST_DAYS:
        return f"{lift.capitalize()} would not be seen within ten years, {traffic}."
    chance = "with a chance of four fifths"
    latest = f"{most:.1f} days {chance}" if most <= _MOST_DAYS else f"more than ten years {chance}"
    return f"{lift.capitalize()} would be seen after {half:.1f} days at even odds, {latest}, {traffic}."
