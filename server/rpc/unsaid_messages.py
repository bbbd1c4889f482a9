"""What can't be said, on its way to the wire: one message for each metric and reason, not for each arm."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from bandit.inference.assessment import Assessment, MetricEvidence
from bandit.inference.reasons import CannotSay
from bandit.v1 import evidence_pb2

_OF_CHALLENGERS = ("difference", "lift", "better", "worse")
_NAMES = {"lift": "relative_lift"}


def to_unsaid(subject: str, why: CannotSay) -> evidence_pb2.Unsaid:
    """The message of one thing that can't be said."""
    return evidence_pb2.Unsaid(subjects=[subject], reason=why.reason, explanation=why.explanation)


def to_all_unsaid(
    assessment: Assessment, arm_ids: Mapping[int, str], metrics: Collection[str]
) -> list[evidence_pb2.Unsaid]:
    """The messages of all that can't be said about arms and these metrics."""
    found = (assessment.reward, *assessment.others.values())
    return [
        message
        for evidence in found
        if evidence.metric.name in metrics
        for message in _of_metric(evidence, arm_ids)
    ]


def _of_metric(evidence: MetricEvidence, arm_ids: Mapping[int, str]) -> Iterator[evidence_pb2.Unsaid]:
    """Subjects that are missing for one reason and the same arms share a message."""
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
    """Subject, reason, arms that miss it for this reason, and arms that could have had it."""
    found: list[tuple[str, Mapping[int, object]]] = [("estimate", evidence.means)]
    for name in _OF_CHALLENGERS:
        parts = {arm: getattr(challenger, name) for arm, challenger in evidence.challengers.items()}
        found.append((f"comparison.{_NAMES.get(name, name)}", parts))
    for subject, by_arm in found:
        missing: dict[CannotSay, list[int]] = defaultdict(list)
        for arm, part in by_arm.items():
            if isinstance(part, CannotSay):
                missing[part].append(arm)
        for why, arms in missing.items():
            yield subject, why, arms, by_arm
    if isinstance(evidence.response, CannotSay):
        yield "response_ratio", evidence.response, (), ()
