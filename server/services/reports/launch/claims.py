"""What is claimed of each challenger of a launch on each metric, and how far the evidence is.

The pairs of an arm that was in shadow and its later decisions are different requests, so their e-values
against the same edge are multiplied; see `bandit.inference.sequential.shadow_pairs`. The product alone
counts: to look at either would err twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import log

from bandit.facts.shadow_pairs import PairSums
from bandit.inference.harm.margins import Ratio, edge_of
from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.shadow_pairs import pair_process, paired_means
from bandit.inference.verdict.assessment import Assessment
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, Claim
from bandit.inference.verdict.families import family_of
from bandit.launch.claims import ClaimKind, LaunchClaim
from bandit.launch.mirroring import ShadowCounts, count_shadow
from bandit.launch.state import ON_ITS_WAY
from bandit.metric import Metric
from server.services.reports.evidence import EvidenceInput
from server.store.records import ReportFacts


def claims_about(
    known: ReportFacts, inputs: EvidenceInput, assessment: Assessment
) -> dict[str, tuple[LaunchClaim, ...]]:
    """Return the claims about each challenger that is on its way, the goal's first.

    Args:
        known: The store's data.
        inputs: The input of the evidence.
        assessment: The evidence.
    """
    launch = known.found.record.launch
    if launch is None:
        return {}
    reader = _ClaimReader(known=known, inputs=inputs, assessment=assessment)
    return {
        arm_id: tuple(reader.claims(arm_id)) for arm_id, arm in launch.arms.items() if arm.state in ON_ITS_WAY
    }


@dataclass(frozen=True, kw_only=True)
class _ClaimReader:
    """Reads the claims about one challenger after the other.

    Attributes:
        known: The store's data.
        inputs: The input of the evidence.
        assessment: The evidence.
        metrics: The declared metrics, the goal first.
    """

    known: ReportFacts
    inputs: EvidenceInput
    assessment: Assessment
    metrics: Sequence[Metric] = field(init=False)

    def __post_init__(self) -> None:
        declared = self.inputs.state.experiment
        goal = declared.metric(declared.reward_metric)
        others = [metric for metric in declared.metrics if metric is not goal]
        object.__setattr__(self, "metrics", (goal, *others))

    def claims(self, arm_id: str) -> Iterator[LaunchClaim]:
        """Yield the claims about a challenger."""
        number = self.inputs.state.arm_numbers[arm_id]
        seen = self._seen(arm_id, number)
        for metric in self.metrics:
            rows = self._rows(metric, seen)
            evidence = self.assessment.others.get(metric.name, self.assessment.reward)
            claim = _claim(metric, evidence.challengers.get(number), is_goal=metric is self.metrics[0])
            if claim.kind is ClaimKind.HARM:
                claim = self._together(claim, metric, rows, number)
            if claim.kind is not ClaimKind.COMPARED or metric.is_shadow:
                yield _with_pairs(claim, metric, rows)

    def _seen(self, arm_id: str, number: int) -> ShadowCounts | None:
        """Return what an arm saw in shadow since its comparison with the champion began; None for nothing."""
        found, state = self.known.found, self.inputs.state
        assert state.launch is not None  # noqa: S101 - claims are made in launches
        hypothesis = state.launch.hypothesis(arm_id, state.experiment.champion)
        if self.known.shadows is None or hypothesis is None:
            return None
        since = hypothesis[1].revision
        return count_shadow(number, found.epochs, found.facts, self.known.shadows, since=since)

    def _rows(self, metric: Metric, seen: ShadowCounts | None) -> Sequence[PairSums]:
        if seen is None or not metric.is_shadow:
            return ()
        return seen.pairs.get(self.inputs.state.metric_numbers[metric.name], ())

    def _together(
        self, claim: LaunchClaim, metric: Metric, rows: Sequence[PairSums], number: int
    ) -> LaunchClaim:
        """Return the claim of harm by pairs and later decisions together."""
        edge = edge_of(metric)
        ratio, difference = (edge.value, 0.0) if isinstance(edge, Ratio) else (1.0, edge.value)
        pairs = pair_process(rows, metric, ratio=ratio, difference=difference)
        if isinstance(pairs, CannotSay):
            return claim
        family = family_of(self.inputs.state, self.inputs.grid, number, self.assessment.reward.challengers)
        return replace(
            claim,
            log_e_value=pairs.log_value + (claim.log_e_value or 0.0),
            log_level=log(family.n_harms / ALPHA),
            unsaid="",
        )


def _claim(metric: Metric, evidence: ChallengerEvidence | None, *, is_goal: bool) -> LaunchClaim:
    """Return the claim about a challenger by its own decisions."""
    if is_goal:
        return _of(metric, ClaimKind.BETTER, None if evidence is None else evidence.better)
    if metric.is_guardrail:
        return _of(metric, ClaimKind.HARM, None if evidence is None else evidence.harm)
    if metric.is_signal:
        return _of(metric, ClaimKind.SIGNAL, None if evidence is None else evidence.signal)
    return LaunchClaim(metric=metric.name, kind=ClaimKind.COMPARED)


def _of(metric: Metric, kind: ClaimKind, found: Claim | SignalState | CannotSay | None) -> LaunchClaim:
    match found:
        case Claim():
            value, level = found.process.log_value, found.log_level
        case SignalState():
            signal = LaunchClaim(metric=metric.name, kind=kind, is_held=found.is_held)
            return replace(signal, log_e_value=found.log_e_value, log_level=found.log_threshold)
        case CannotSay():
            return LaunchClaim(metric=metric.name, kind=kind, unsaid=found.explanation)
        case None:
            return LaunchClaim(metric=metric.name, kind=kind)
    return LaunchClaim(metric=metric.name, kind=kind, log_e_value=value, log_level=level)


def _with_pairs(claim: LaunchClaim, metric: Metric, rows: Sequence[PairSums]) -> LaunchClaim:
    """Return a claim with the comparison in shadow, if there is a pair."""
    pairs = paired_means(rows, metric)
    return claim if isinstance(pairs, CannotSay) else replace(claim, pairs=pairs)
