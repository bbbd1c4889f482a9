"""The verdict in words: first evidence, then beliefs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from bandit.experiment import AnalysisUnit
from bandit.inference.sequential.design import UNDECLARED_FLOOR
from bandit.inference.sequential.off_policy import Gain, SplitValue
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Advice, Rules, Ruling
from bandit.inference.verdict.claims import ALPHA, Claim
from bandit.metric import Direction
from server.services.reports.evidence import EvidenceSummary
from server.services.reports.metric_sentences import MetricSentences
from server.services.reports.values import ArmReport, Verdict
from server.wording import counted, margin_text, percent, split_name

_FEW: Final = 5
_WEEK: Final = timedelta(days=7)
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
    check = evidence.assessment.sample_ratio
    if isinstance(check, SampleRatio) and check.is_alarming():
        return Verdict(
            headline=_alarm(evidence.ruling, arm_ids),
            evidence=(_about_sample_ratio(check, arm_ids, evidence.unit), _NO_FINDING),
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
    ruling, rules = evidence.ruling, evidence.rules
    arm, best = "" if ruling.arm is None else arm_ids[ruling.arm], arm_ids[evidence.assessment.champion]
    has_guardrail = any(other.metric.is_guardrail for other in evidence.assessment.others.values())
    harmless = (
        "no guardrail speaks against it" if has_guardrail else "there is no guardrail to speak against it"
    )
    if ruling.advice is Advice.WAIT:
        return f"Wait: {_why_wait(evidence, arm_ids, probability_best)}."
    if ruling.advice is Advice.ROLL_BACK:
        return f"Take {arm} out: it does harm ({_named_harm(evidence, ruling.metric)})."
    return {
        Advice.TRIP: f"Take {arm} out now and look: {ruling.metric} came at {rules.trip_ratio:g} times the "
        f"rate of {best} or more. This is a fuse, not a finding.",
        Advice.CHECK: _CHECK,
        Advice.PROMOTE: f"Promote {arm}: it is better than {best}, and {harmless}.",
        Advice.RETIRE: f"End the experiment with {best}: what another arm could still win is believed to be "
        "negligible.",
    }[ruling.advice]


def _named_harm(evidence: EvidenceSummary, name: str) -> str:
    """Return a guardrail's name, with its margin if it has one."""
    margin = evidence.assessment.others[name].metric.worse_by
    return name if margin is None else f"{name} is worse by more than {margin_text(margin)}"


def _why_wait(
    evidence: EvidenceSummary, arm_ids: Mapping[int, str], probability_best: Mapping[str, float]
) -> str:
    """Return what promotion waits for; it never contradicts the evidence below it."""
    rules, champion = evidence.rules, arm_ids[evidence.assessment.champion]
    is_too_soon = evidence.ruling.cycles < rules.least_cycles
    first = evidence.started_at + rules.least_cycles * rules.cycle
    when = f"{first:%Y-%m-%d %H:%M} UTC"
    cycles = _cycles(rules)
    until = f"; nothing is promoted before {rules.least_cycles} whole {cycles}s, on {when}"
    until = until if is_too_soon else ""
    claims = {
        arm_ids[arm]: challenger.better
        for arm, challenger in evidence.assessment.reward.challengers.items()
        if isinstance(challenger.better, Claim)
    }
    found = [arm for arm, claim in claims.items() if claim.is_established]
    if found:
        arm = min(found, key=lambda each: claims[each].p_value)
        if probability_best.get(arm, 0.0) < rules.least_probability:
            return f"{arm} is better than {champion}, and is not believed to be the best arm{until}"
        shown = until or f", but has not shown it where a whole {cycles} ends"
        return f"{arm} is better than {champion}{shown}"
    lapsed = [arm for arm, claim in claims.items() if claim.is_lapsed]
    if lapsed:
        return (
            f"{lapsed[0]} was better than {champion} at an earlier look, and no longer is over all "
            f"{counted(evidence.unit)} so far{until}"
        )
    return f"no challenger is established as better, and no guardrail has fired{until}"


def _cycles(rules: Rules) -> str:
    return "week" if rules.cycle == _WEEK else "cycle"


def _evidence(evidence: EvidenceSummary, arm_ids: Mapping[int, str]) -> Iterator[str]:
    assessment = evidence.assessment
    for metric in (assessment.reward, *assessment.others.values()):
        yield from MetricSentences(metric, evidence, arm_ids).all()
    if assessment.others:
        yield _about_error_rates(1 + len(assessment.others))
    if isinstance(assessment.sample_ratio, SampleRatio):
        yield _about_sample_ratio(assessment.sample_ratio, arm_ids, evidence.unit)
    for value, split in zip(assessment.splits, evidence.splits, strict=True):
        if isinstance(value, SplitValue):
            yield from _about_split(value, split_name(_named(split, arm_ids)), evidence)


def _named(split: Mapping[int, float], arm_ids: Mapping[int, str]) -> dict[str, float]:
    return {arm_ids[arm]: weight for arm, weight in split.items()}


def _about_error_rates(n_metrics: int) -> str:
    """Return the error rates, which challengers and directions of a metric share, and metrics do not."""
    together = f"{min(n_metrics * ALPHA, 1):.2g} for a false finding on any of the {n_metrics}"
    return f"Error rates: at most {ALPHA:g} for each metric by itself, so at most {together}."


def _about_sample_ratio(check: SampleRatio, arm_ids: Mapping[int, str], unit: AnalysisUnit) -> str:
    found = f"anytime p {check.process.p_value:.2g}"
    deviations = {arm: z for arm, z in check.z.items() if z is not None}
    if deviations:
        arm = max(deviations, key=lambda each: abs(deviations[each]))
        counts = f"{check.observed[arm]:,} {counted(unit)}, {check.expected[arm]:,.0f} by its shares"
        found += f"; furthest is {arm_ids[arm]}: {counts}, z {deviations[arm]:+.1f}"
    if check.is_alarming():
        return f"Sample ratio mismatch (SRM): {counted(unit)} do not follow the shares ({found})."
    return f"No sample ratio mismatch (SRM): {counted(unit)} follow the shares ({found})."


def _about_split(value: SplitValue, name: str, evidence: EvidenceSummary) -> Iterator[str]:
    """Yield what a split would have earned, over how many decisions, and what the bandit gained over it."""
    total, unit = value.n_decisions + value.n_omitted, evidence.unit
    is_more_better = evidence.assessment.reward.metric.direction is Direction.MAXIMIZE
    had, more = ("earned", "a gain") if is_more_better else ("had", "a difference")
    which = f"over {value.n_decisions:,} of {total:,} resolved {counted(unit)}" if value.n_omitted else ""
    worth = f"A fixed split {name} would have {had} {value.value:.4g} ± {value.standard_error:.2g} a {unit}"
    if isinstance(value.gain, Gain):
        gain = f"{value.gain.value:+.4g} ± {value.gain.standard_error:.2g}"
        ends = value.gain.interval
        bounds = f"{ends.lower:+.4g} to {ends.upper:+.4g} at any look"
        rest = f"the bandit {had} {value.earned:.4g}, {more} of {gain} ({bounds})"
    else:
        rest = value.gain.explanation
    yield f"{worth}{', ' + which if which else ''}; {rest}."
    if value.n_below:
        yield (
            f"{value.n_below:,} {counted(unit)} are left out of that, since an arm had less than its floor: "
            f"its declared minimum share, or {percent(UNDECLARED_FLOOR)} where none is declared. Declare a "
            "minimum share for every arm, and all of them count."
        )


def _beliefs(probability_best: Mapping[str, float], expected_losses: Mapping[str, float]) -> Iterator[str]:
    ranked = sorted(probability_best.items(), key=lambda item: -item[1])
    for arm, probability in ranked[:_FEW]:
        loss = f", expected loss {expected_losses[arm]:.2g} a decision" if arm in expected_losses else ""
        yield f"{arm} is best with probability {percent(probability)}{loss}."
    if len(ranked) > _FEW:
        yield f"{len(ranked) - _FEW:,} other arms: each is best with at most {percent(ranked[_FEW][1])}."
