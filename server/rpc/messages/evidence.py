"""Conversion of evidence to messages."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Final, assert_never

from bandit.facts import Epoch
from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.means import MeanEstimate
from bandit.inference.sequential.off_policy import Gain, SplitValue
from bandit.inference.sequential.response import Response
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Advice, Ruling
from bandit.inference.verdict.assessment import Assessment, MetricEvidence
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, Claim, TestKind
from bandit.posteriors import (
    BetaPosterior,
    GammaPosterior,
    NormalPosterior,
    Posterior,
    StudentTPosterior,
)
from bandit.v1 import evidence_pb2, experiment_pb2
from server.rpc.messages.times import to_timestamp
from server.services.reports.evidence import EvidenceSummary
from server.services.reports.outlook import Outlook
from server.services.reports.values import Verdict

_TESTS: Final = {
    TestKind.CENTRED_ODDS: evidence_pb2.EVIDENCE_TEST_CENTRED_ODDS,
    TestKind.BOUNDED_SCORES: evidence_pb2.EVIDENCE_TEST_BOUNDED_SCORES,
    TestKind.ODDS: evidence_pb2.EVIDENCE_TEST_ODDS,
}
_ADVICE: Final = {
    Advice.WAIT: evidence_pb2.ADVICE_WAIT,
    Advice.PROMOTE: evidence_pb2.ADVICE_PROMOTE,
    Advice.ROLL_BACK: evidence_pb2.ADVICE_ROLL_BACK,
    Advice.TRIP: evidence_pb2.ADVICE_TRIP,
    Advice.RETIRE: evidence_pb2.ADVICE_RETIRE,
    Advice.CHECK: evidence_pb2.ADVICE_CHECK,
}


def add_evidence(
    message: experiment_pb2.MetricReport,
    evidence: MetricEvidence,
    arm: int,
    champion: str,
    *,
    is_alarming: bool,
) -> None:
    """Write the evidence about one arm into its report on the metric.

    Args:
        message: The arm's report on the metric.
        evidence: The evidence on the metric.
        arm: Number of the arm.
        champion: Id of the champion.
        is_alarming: Whether decisions do not follow the shares, so that nothing is established.
    """
    mean = evidence.means.get(arm)
    if isinstance(mean, MeanEstimate):
        message.estimate.CopyFrom(_mean(mean))
    if isinstance(evidence.response, Response) and arm in evidence.response.arms:
        ratio = evidence.response.arms[arm].ratio
        if ratio is not None:
            message.response_ratio = ratio
    if arm in evidence.challengers:
        message.comparison.CopyFrom(_comparison(evidence, arm, champion, is_alarming=is_alarming))
    message.looks.extend(
        evidence_pb2.Look(
            time=to_timestamp(evidence.row_ends[look.row]),
            value=look.mean,
            lower=look.interval.lower,
            upper=look.interval.upper,
        )
        for look in evidence.paths.get(arm, ())
    )


def _comparison(
    evidence: MetricEvidence, arm: int, champion: str, *, is_alarming: bool
) -> evidence_pb2.Comparison:
    challenger = evidence.challengers[arm]
    message = evidence_pb2.Comparison(champion=champion)
    for name in ("better", "worse", "harm", "not_worse"):
        claim = getattr(challenger, name)
        if isinstance(claim, Claim):
            getattr(message, name).CopyFrom(_claim(claim, evidence.row_ends, is_alarming=is_alarming))
    if isinstance(challenger.signal, SignalState):
        message.signal.CopyFrom(_signal(challenger.signal, evidence.row_epochs))
    comparison = challenger.comparison
    if isinstance(comparison, Comparison):
        message.difference.CopyFrom(_difference(comparison))
        message.champion_mean = comparison.champion_mean
        if isinstance(comparison.lift, Interval):
            message.relative_lift.CopyFrom(to_sequence(comparison.lift))
        if comparison.relative is not None:
            message.relative_change = comparison.relative
        if comparison.approximate is not None:
            message.approximate_difference.CopyFrom(to_sequence(comparison.approximate))
            message.approximate_difference.kind = evidence_pb2.INTERVAL_KIND_APPROXIMATE
    return message


def _signal(state: SignalState, row_epochs: Sequence[Epoch]) -> evidence_pb2.Signal:
    since = None if state.since_row is None else row_epochs[state.since_row]
    return evidence_pb2.Signal(
        held=state.is_held,
        pauses=state.n_pauses,
        log_e_value=state.log_e_value,
        log_threshold=state.log_threshold,
        since_epoch=0 if since is None else since.number,
        since_time=None if since is None else to_timestamp(since.started_at),
    )


def to_sequence(interval: Interval) -> evidence_pb2.Interval:
    """Return the message of an interval that holds at every look; infinite ends are left out."""
    return evidence_pb2.Interval(
        lower=interval.lower if isfinite(interval.lower) else None,
        upper=interval.upper if isfinite(interval.upper) else None,
        level=1 - ALPHA,
        kind=evidence_pb2.INTERVAL_KIND_CONFIDENCE_SEQUENCE,
    )


def to_sample_ratio(check: SampleRatio | CannotSay, arm_ids: Mapping[int, str]) -> evidence_pb2.SampleRatio:
    """Return the message of the sample-ratio check."""
    if isinstance(check, CannotSay):
        return evidence_pb2.SampleRatio(unsaid=to_unsaid("sample_ratio", check))
    return evidence_pb2.SampleRatio(
        arms=[
            evidence_pb2.ArmRatio(
                arm=arm_ids[arm],
                observed=check.observed[arm],
                expected=check.expected[arm],
                z=check.z[arm],
            )
            for arm in check.observed
        ],
        p_value=check.process.p_value,
        alarming=check.is_alarming(),
    )


def to_splits(evidence: EvidenceSummary, arm_ids: Mapping[int, str]) -> list[evidence_pb2.SplitReport]:
    """Return the messages of the static splits."""
    values = evidence.assessment.splits
    return [_split(value, split, arm_ids) for value, split in zip(values, evidence.splits, strict=True)]


def _split(
    value: SplitValue | CannotSay, split: Mapping[int, float], arm_ids: Mapping[int, str]
) -> evidence_pb2.SplitReport:
    total = sum(split.values())
    weights = {arm_ids[arm]: weight / total for arm, weight in split.items()}
    if isinstance(value, CannotSay):
        return evidence_pb2.SplitReport(weights=weights, unsaid=to_unsaid("value", value))
    counts = {"n": value.n_decisions, "n_omitted": value.n_omitted}
    message = evidence_pb2.SplitReport(
        weights=weights,
        value=evidence_pb2.Estimate(
            value=value.value,
            standard_error=value.standard_error,
            interval=to_sequence(value.interval),
            **counts,
        ),
        ips_value=value.ips_value,
        ips_standard_error=value.ips_standard_error,
        earned=value.earned,
        effective_sample_size=value.effective_sample_size,
        n_below_floor=value.n_below,
        n_centre=value.n_centre,
    )
    if isinstance(value.gain, Gain):
        gain, interval = value.gain, to_sequence(value.gain.interval)
        message.gain.CopyFrom(
            evidence_pb2.Estimate(
                value=gain.value, standard_error=gain.standard_error, interval=interval, **counts
            )
        )
    else:
        message.gain_unsaid.CopyFrom(to_unsaid("gain", value.gain))
    return message


def to_verdict(ruling: Ruling, verdict: Verdict, arm_ids: Mapping[int, str]) -> evidence_pb2.Verdict:
    """Return the message of the verdict."""
    return evidence_pb2.Verdict(
        advice=_ADVICE[ruling.advice],
        arm="" if ruling.arm is None else arm_ids[ruling.arm],
        metric=ruling.metric,
        headline=verdict.headline,
        evidence=verdict.evidence,
        belief=verdict.belief,
        cycles=ruling.cycles,
    )


def to_outlook(outlook: Outlook, text: str) -> evidence_pb2.Outlook:
    """Return the message of the outlook."""
    message = evidence_pb2.Outlook(lift=outlook.lift, decisions_per_day=outlook.decisions_per_day, text=text)
    if isinstance(outlook.forecast, CannotSay):
        message.unsaid.CopyFrom(to_unsaid("outlook", outlook.forecast))
        if outlook.forecast.reason is Reason.CHALLENGER_WITHOUT_PLANNED_SHARE:
            message.unsaid.arms.append(outlook.challenger)
        return message
    if isfinite(outlook.forecast.days_at_half):
        message.days_at_half = outlook.forecast.days_at_half
    if isfinite(outlook.forecast.days_at_most):
        message.days_at_most = outlook.forecast.days_at_most
    if outlook.minimum_share is not None:
        message.minimum_share = outlook.minimum_share
    return message


def _mean(mean: MeanEstimate) -> evidence_pb2.Estimate:
    return evidence_pb2.Estimate(
        value=mean.mean,
        standard_error=mean.standard_error,
        interval=to_sequence(mean.interval),
        n=mean.n,
    )


def _difference(comparison: Comparison) -> evidence_pb2.Estimate:
    return evidence_pb2.Estimate(
        value=comparison.difference,
        standard_error=comparison.standard_error,
        interval=to_sequence(comparison.interval),
        n=comparison.n_decisions,
    )


def _claim(claim: Claim, row_ends: Sequence[datetime], *, is_alarming: bool) -> evidence_pb2.Claim:
    first = claim.first_established
    return evidence_pb2.Claim(
        test=_TESTS[claim.test],
        log_e_value=claim.process.log_value,
        log_largest_e_value=claim.process.log_maximum,
        p_value=claim.p_value,
        established=claim.is_established and not is_alarming,
        lapsed=claim.is_lapsed,
        first_established=None if first is None else to_timestamp(row_ends[first]),
    )


def to_posterior(belief: Posterior) -> evidence_pb2.Posterior:
    """Return the message of a posterior."""
    match belief:
        case BetaPosterior(alpha, beta):
            return evidence_pb2.Posterior(beta=evidence_pb2.BetaPosterior(alpha=alpha, beta=beta))
        case NormalPosterior(mean, sd):
            return evidence_pb2.Posterior(normal=evidence_pb2.NormalPosterior(mean=mean, sd=sd))
        case StudentTPosterior(mean, scale, df):
            student_t = evidence_pb2.StudentTPosterior(mean=mean, scale=scale, df=df)
            return evidence_pb2.Posterior(student_t=student_t)
        case GammaPosterior(shape, rate):
            return evidence_pb2.Posterior(gamma=evidence_pb2.GammaPosterior(shape=shape, rate=rate))
        case _:
            assert_never(belief)


def to_unsaid(subject: str, why: CannotSay) -> evidence_pb2.Unsaid:
    """Return the message for a subject about which nothing can be said."""
    return evidence_pb2.Unsaid(subjects=[subject], reason=why.reason, explanation=why.explanation)


def to_all_unsaid(
    assessment: Assessment, arm_ids: Mapping[int, str], metrics: Collection[str]
) -> list[evidence_pb2.Unsaid]:
    """Return the messages for all that can't be said about arms and these metrics."""
    found = (assessment.reward, *assessment.others.values())
    return [
        message
        for evidence in found
        if evidence.metric.name in metrics
        for message in _of_metric(evidence, arm_ids)
    ]


def _of_metric(evidence: MetricEvidence, arm_ids: Mapping[int, str]) -> Iterator[evidence_pb2.Unsaid]:
    """Yield a message for the subjects that are missing for the same reason and the same arms."""
    grouped: dict[tuple[CannotSay, tuple[int, ...]], list[str]] = defaultdict(list)
    for subject, why, missing, possible in _by_subject(evidence):
        arms = () if len(missing) == len(possible) else tuple(sorted(missing))
        grouped[why, arms].append(subject)
    for (why, arms), subjects in grouped.items():
        yield evidence_pb2.Unsaid(
            subjects=subjects,
            reason=why.reason,
            explanation=why.explanation,
            metric=evidence.metric.name,
            arms=[arm_ids[arm] for arm in arms],
        )


def _by_subject(
    evidence: MetricEvidence,
) -> Iterator[tuple[str, CannotSay, Collection[int], Collection[int]]]:
    """Yield each missing subject, the reason, the arms without it for that reason, and all its arms."""
    found: list[tuple[str, Mapping[int, object]]] = [("estimate", evidence.means)]
    challengers = evidence.challengers
    for name, part_of in _PARTS.items():
        found.append((name, {arm: part_of(challenger) for arm, challenger in challengers.items()}))
    for subject, by_arm in found:
        missing: dict[CannotSay, list[int]] = defaultdict(list)
        for arm, part in by_arm.items():
            if isinstance(part, CannotSay):
                missing[part].append(arm)
        for why, arms in missing.items():
            yield subject, why, arms, by_arm
    if isinstance(evidence.response, CannotSay):
        yield "response_ratio", evidence.response, (), ()


def _lift(challenger: ChallengerEvidence) -> object:
    """Return the relative lift, or why it is missing though there is a difference."""
    comparison = challenger.comparison
    return None if isinstance(comparison, CannotSay) else comparison.lift


_PARTS: Final[Mapping[str, Callable[[ChallengerEvidence], object]]] = {
    "comparison.difference": lambda challenger: challenger.comparison,
    "comparison.better": lambda challenger: challenger.better,
    "comparison.worse": lambda challenger: challenger.worse,
    "comparison.harm": lambda challenger: challenger.harm,
    "comparison.not_worse": lambda challenger: challenger.not_worse,
    "comparison.signal": lambda challenger: challenger.signal,
    "comparison.relative_lift": _lift,
}
"""What is said of a challenger, by its name in a report."""
