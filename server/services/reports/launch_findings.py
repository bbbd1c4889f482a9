"""What speaks against the arms of a launch: guardrails that show harm, and signals that hold."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, isfinite, log
from typing import Final

from bandit.facts.shadow_pairs import PairSums
from bandit.inference.data.floors import smallest_floors
from bandit.inference.harm.margins import Ratio, edge_of
from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.shadow_pairs import pair_process
from bandit.inference.verdict.advice import Harm
from bandit.inference.verdict.assessment import Assessment, assess
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, Claim
from bandit.inference.verdict.families import family_of
from bandit.launch.gates import Finding
from bandit.launch.launching import Launching
from bandit.launch.mirroring import count_shadow
from bandit.launch.state import ON_ITS_WAY, ArmState
from bandit.metric import Metric
from server.services.reports.evidence import EvidenceInput, harms_of, rules_of
from server.store.records import ReportFacts

_LARGEST_LOG: Final = 700.0


def find_harm(
    known: ReportFacts, launching: Launching, inputs: EvidenceInput, assessment: Assessment
) -> dict[str, tuple[Finding, ...]]:
    """Return the guardrails that show harm by each challenger, and by a champion in its holdback.

    Args:
        known: The store's data.
        launching: The experiment and its launch.
        inputs: The input of the evidence.
        assessment: The evidence.
    """
    return _with_shadows(_harmed(launching, inputs, assessment), known, inputs, assessment)


def find_signals(
    launching: Launching, inputs: EvidenceInput, assessment: Assessment
) -> dict[str, tuple[Finding, ...]]:
    """Return the signals that hold each challenger."""
    ids = {number: arm_id for arm_id, number in inputs.state.arm_numbers.items()}
    found: defaultdict[str, list[Finding]] = defaultdict(list)
    for name, evidence in assessment.others.items():
        for arm, challenger in evidence.challengers.items():
            signal = challenger.signal
            if isinstance(signal, SignalState) and signal.is_held:
                figures = {"e_value": _exp(signal.log_e_value), "level": _exp(signal.log_threshold)}
                found[ids[arm]].append(Finding(metric=name, figures=figures))
    return {arm_id: tuple(findings) for arm_id, findings in found.items() if arm_id in launching.launch.arms}


def _harmed(
    launching: Launching, inputs: EvidenceInput, assessment: Assessment
) -> dict[str, tuple[Finding, ...]]:
    """Return the guardrails that show harm by each challenger, and by a champion in its holdback.

    A comparison belongs to a pair: after a promotion it goes on, with the former champion as the measure.
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
        found[champion] = _findings(reverse, harms_of(before), launching, ids).get(champion, ())
    return {arm_id: findings for arm_id, findings in found.items() if findings}


def _with_shadows(
    harmed: Mapping[str, tuple[Finding, ...]],
    known: ReportFacts,
    inputs: EvidenceInput,
    assessment: Assessment,
) -> dict[str, tuple[Finding, ...]]:
    """Return the findings, where an arm was in shadow by its pairs and its later decisions together.

    They are other decisions, so their e-values against the same edge are multiplied; see
    `bandit.inference.sequential.shadow_pairs`. The product alone counts: to look at either would err twice.
    """
    record, found = known.found.record, dict(harmed)
    if record.launch is None or known.shadows is None:
        return found
    guardrails = [metric for metric in record.experiment.metrics if metric.is_guardrail and metric.is_shadow]
    for arm_id, arm in record.launch.arms.items():
        hypothesis = record.launch.hypothesis(arm_id, record.experiment.champion)
        if arm.state not in ON_ITS_WAY or hypothesis is None:
            continue
        number = record.arm_numbers[arm_id]
        since = hypothesis[1].revision
        seen = count_shadow(number, known.found.epochs, known.found.facts, known.shadows, since=since)
        family = family_of(inputs.state, inputs.grid, number, assessment.reward.challengers)
        level = log(family.n_harms / ALPHA)
        for metric in guardrails:
            rows = seen.pairs.get(record.metric_numbers[metric.name], ())
            challenger = assessment.others[metric.name].challengers.get(number)
            together = _together(metric, rows, challenger)
            if together is not None:
                found[arm_id] = _judged(found.get(arm_id, ()), metric.name, together, level, rows)
    return found


def _together(
    metric: Metric, rows: Sequence[PairSums], challenger: ChallengerEvidence | None
) -> float | None:
    """Return the log of the e-value of pairs and of later decisions together; None without pairs."""
    edge = edge_of(metric)
    ratio, difference = (edge.value, 0.0) if isinstance(edge, Ratio) else (1.0, edge.value)
    pairs = pair_process(rows, metric, ratio=ratio, difference=difference)
    if isinstance(pairs, CannotSay):
        return None
    claim = None if challenger is None else challenger.harm
    return pairs.log_value + (claim.process.log_value if isinstance(claim, Claim) else 0.0)


def _judged(
    findings: tuple[Finding, ...], metric: str, log_value: float, level: float, rows: Sequence[PairSums]
) -> tuple[Finding, ...]:
    """Return an arm's findings with one metric judged by this e-value; the trip wire stays beside it."""
    own = next((each for each in findings if each.metric == metric and not each.is_trip_wire), None)
    others = tuple(each for each in findings if each is not own)
    if log_value < level:
        return others
    figures = {} if own is None else dict(own.figures)
    figures |= {"e_value": _exp(log_value), "level": _exp(level), "pairs": float(sum(row.n for row in rows))}
    return (Finding(metric=metric, figures=figures), *others)


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
    """Return the number of harmful events, and their rate over the champion's where it has had any."""
    if harm is None:
        return {}
    return {"events": harm.events} | ({"ratio": harm.ratio} if isfinite(harm.ratio) else {})


def _exp(log_value: float) -> float:
    return exp(min(log_value, _LARGEST_LOG))
