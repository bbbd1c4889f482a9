"""What speaks against arms of a launch: harm, a goal that turned in the holdback, signals that hold."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, isfinite
from typing import Final

from bandit.inference.data.floors import smallest_floors
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.results import Interval
from bandit.inference.verdict.advice import Harm
from bandit.inference.verdict.assessment import Assessment, assess
from bandit.inference.verdict.claims import Claim
from bandit.launch.claims import ClaimKind, LaunchClaim, ShadowPairs
from bandit.launch.gates import Finding
from bandit.launch.launching import Launching
from bandit.launch.state import ON_ITS_WAY, ArmState
from server.services.reports.evidence import EvidenceInput, harms_of, rules_of

_LARGEST_LOG: Final = 700.0


def find_harm(
    launching: Launching,
    inputs: EvidenceInput,
    assessment: Assessment,
    claims: Mapping[str, Sequence[LaunchClaim]],
) -> dict[str, tuple[Finding, ...]]:
    """Return what speaks against each challenger, and against a champion in its holdback.

    Args:
        launching: The experiment and its launch.
        inputs: The input of the evidence.
        assessment: The evidence.
        claims: Arm id to the claims about it.
    """
    return _with_pairs(_harmed(launching, inputs, assessment), claims)


def find_signals(claims: Mapping[str, Sequence[LaunchClaim]]) -> dict[str, tuple[Finding, ...]]:
    """Return the signals that hold each challenger, of the claims about it."""
    return {
        arm_id: tuple(
            Finding(metric=claim.metric, figures=_e_value_of(claim)) for claim in of_arm if claim.is_held
        )
        for arm_id, of_arm in claims.items()
    }


def _harmed(
    launching: Launching, inputs: EvidenceInput, assessment: Assessment
) -> dict[str, tuple[Finding, ...]]:
    """Return what speaks against each challenger, and against a champion in its holdback.

    A comparison belongs to a pair: after a promotion that of a guardrail goes on, with the former champion as
    the measure.
    """
    numbers, launch = inputs.state.arm_numbers, launching.launch
    ids = {number: arm_id for arm_id, number in numbers.items()}
    found = _findings(assessment, harms_of(inputs), launching, ids)
    if launch.former_champion is not None:
        former = replace(inputs.state.experiment, champion=launch.former_champion)
        before = replace(inputs, state=replace(inputs.state, experiment=former))
        floors = smallest_floors(inputs.declarations, numbers)
        reverse = assess(before.state, floors, grid=inputs.grid, withheld=inputs.withheld)
        champion = launching.experiment.champion
        harms = _findings(reverse, harms_of(before), launching, ids).get(champion, ())
        found[champion] = (*harms, *_reversal(assessment, numbers[launch.former_champion]))
    return {arm_id: findings for arm_id, findings in found.items() if findings}


def _reversal(assessment: Assessment, former: int) -> Iterator[Finding]:
    """Yield the finding that the former champion is better on the goal than the one that replaced it.

    This comparison began with the promotion: evidence from before, which led to it, would hide a reversal.
    """
    challenger = assessment.reward.challengers.get(former)
    claim = None if challenger is None else challenger.better
    if challenger is not None and isinstance(claim, Claim) and claim.is_established:
        figures = _figures_of(claim, challenger.comparison)
        yield Finding(metric=assessment.reward.metric.name, figures=figures, is_reversal=True)


def _with_pairs(
    harmed: Mapping[str, tuple[Finding, ...]], claims: Mapping[str, Sequence[LaunchClaim]]
) -> dict[str, tuple[Finding, ...]]:
    """Return the findings, where an arm was in shadow by its pairs and its later decisions together."""
    found = dict(harmed)
    for arm_id, of_arm in claims.items():
        for claim in of_arm:
            if claim.kind is ClaimKind.HARM and claim.pairs is not None:
                found[arm_id] = _judged(found.get(arm_id, ()), claim, claim.pairs)
    return {arm_id: findings for arm_id, findings in found.items() if findings}


def _judged(findings: tuple[Finding, ...], claim: LaunchClaim, pairs: ShadowPairs) -> tuple[Finding, ...]:
    """Return an arm's findings with one metric judged by its claim; the trip wire stays beside it."""
    own = next((each for each in findings if each.metric == claim.metric and not each.is_trip_wire), None)
    others = tuple(each for each in findings if each is not own)
    if not claim.is_established:
        return others
    figures = {} if own is None else dict(own.figures)
    figures |= _e_value_of(claim) | {"pairs": float(pairs.n)}
    return (Finding(metric=claim.metric, figures=figures), *others)


def _findings(
    assessment: Assessment,
    harms: Mapping[tuple[str, int], Harm],
    launching: Launching,
    ids: Mapping[int, str],
) -> dict[str, tuple[Finding, ...]]:
    """Return the guardrails that show harm by each arm that has traffic, the established ones first."""
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    rules = rules_of(launching.plan)
    for name, evidence in assessment.others.items():
        for arm, challenger in evidence.challengers.items():
            claim = challenger.harm
            if isinstance(claim, Claim) and claim.is_established:
                figures = _figures_of(claim, challenger.comparison) | _counted(harms.get((name, arm)))
                found[ids[arm]].append(Finding(metric=name, figures=figures))
    for (name, arm), harm in harms.items():
        if harm.events >= rules.trip_events and harm.ratio >= rules.trip_ratio:
            found[ids[arm]].append(Finding(metric=name, figures=_counted(harm), is_trip_wire=True))
    watched = {*ON_ITS_WAY, ArmState.PROMOTED}
    return {
        arm_id: tuple(findings)
        for arm_id, findings in found.items()
        if arm_id in launching.launch.arms and launching.launch.arms[arm_id].state in watched
    }


def _figures_of(claim: Claim, comparison: Comparison | CannotSay) -> dict[str, float]:
    """Return the e-value of a claim and its level, and how much worse the arm is at least."""
    figures = {"e_value": _exp(claim.process.log_value), "level": _exp(claim.log_level)}
    if isinstance(comparison, Comparison) and isinstance(comparison.lift, Interval):
        figures |= {
            name: bound
            for name, bound in (("lift_lower", comparison.lift.lower), ("lift_upper", comparison.lift.upper))
            if isfinite(bound)
        }
    return figures


def _counted(harm: Harm | None) -> dict[str, float]:
    """Return how many harmful events both had, and the rate over the champion's where it has had any."""
    if harm is None:
        return {}
    counts = {
        "events": harm.events,
        "event_decisions": harm.decisions,
        "champion_events": harm.champion_events,
        "champion_decisions": harm.champion_decisions,
    }
    return counts | ({"ratio": harm.ratio} if isfinite(harm.ratio) else {})


def _e_value_of(claim: LaunchClaim) -> dict[str, float]:
    return {"e_value": _exp(claim.log_e_value or 0.0), "level": _exp(claim.log_level or 0.0)}


def _exp(log_value: float) -> float:
    return exp(min(log_value, _LARGEST_LOG))
