"""Priors that new arms take from other arms: the source's outcomes, discounted, as they are at that moment.

They become numbers of the experiment when the arm is added, so that neither what the source sees later, nor
its removal, moves the belief about the new arm.
"""

from collections.abc import Mapping
from dataclasses import replace

from bandit.allocation import ExperimentState
from bandit.experiment import PriorFrom
from bandit.posteriors.moments import OutcomeMoments
from server.store.records import ExperimentRecord


def new_sources(before: ExperimentRecord, after: ExperimentRecord) -> dict[str, PriorFrom]:
    """Return the id of each arm that is added to the one that its belief starts from, where there is one."""
    return {
        arm.id: arm.prior_from
        for arm in after.experiment.arms
        if arm.prior_from is not None and arm.id not in before.arm_numbers
    }


def with_taken_priors(
    after: ExperimentRecord, sources: Mapping[str, PriorFrom], state: ExperimentState
) -> ExperimentRecord:
    """Return an experiment with what its new arms take: nothing of a metric without outcomes of the source.

    Args:
        after: With the new arms.
        sources: Each new arm's id to the one that its belief starts from.
        state: The experiment before, with its facts: half-life, look-back and windows apply to the source.
    """
    taken = {arm_id: _taken(source, state) for arm_id, source in sources.items()}
    worth_keeping = {arm_id: moments for arm_id, moments in taken.items() if moments}
    return replace(after, taken_priors={**after.taken_priors, **worth_keeping})


def _taken(source: PriorFrom, state: ExperimentState) -> dict[str, OutcomeMoments]:
    number = state.arm_numbers.get(source.arm)
    if number is None:  # added at the same time
        return {}
    sums = {
        metric.name: state.observations(metric, [number])[number].sums for metric in state.experiment.metrics
    }
    return {name: each.weighted(source.weight) for name, each in sums.items() if each.n > 0}
