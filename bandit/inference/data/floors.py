"""Floors: the smallest share that a declaration allows an arm, for which bounds are computed.

A floor must be known before the data, so it comes from the declaration and never from observed shares. The
share that a policy gives an arm whatever the outcomes (a static split its weight, a constant epsilon its
part) counts as well, within the additive limits, ``f + (1 - sum f) * p``, and the maximum share. In a launch
the declared floors alone count: those of the bandit stage, and the champion's reserve.
"""

from collections.abc import Iterable, Mapping
from math import fsum

from bandit.experiment import Experiment
from bandit.launch.shares import reserve_of
from bandit.policies import EpsilonGreedy, StaticSplit, policy_over


def smallest_floors(declarations: Iterable[Experiment], arm_numbers: Mapping[str, int]) -> dict[int, float]:
    """Return arm number to the smallest floor of any declaration that had the arm in service.

    Args:
        declarations: Every revision under which the experiment has run.
        arm_numbers: Arm id to number.
    """
    floors: dict[int, float] = {}
    for declared in declarations:
        for arm_id, floor in declared_floors(declared).items():
            number = arm_numbers[arm_id]
            floors[number] = min(floor, floors.get(number, 1.0))
    return floors


def declared_floors(experiment: Experiment) -> dict[str, float]:
    """Return arm id to the share that it has whatever the outcomes, of arms in service; in [0, 1].

    >>> from bandit.experiment import Arm
    >>> from bandit.policies import WeightedSplit
    >>> from bandit.limits import Limits
    >>> from bandit.metric import Metric
    >>> declared_floors(
    ...     Experiment(
    ...         name="x", arms=(Arm(id="a"), Arm(id="b")), champion="a", salt=bytes(16),
    ...         metrics=(Metric(name="m"),), reward_metric="m",
    ...         limits=Limits(minimum_share=0.1), policy=WeightedSplit(weights={"a": 1}),
    ...     )
    ... )
    {'a': 0.9, 'b': 0.1}
    """
    arm_ids = tuple(arm.id for arm in experiment.arms if not arm.is_taken_out)
    if not arm_ids:
        return {}
    if experiment.launch is not None:
        floors_of_role = {experiment.champion: reserve_of(experiment.limits, experiment.champion)}
        return {arm_id: experiment.limits.floor_of(arm_id) for arm_id in arm_ids} | floors_of_role
    match policy_over(experiment.policy, arm_ids):
        case StaticSplit() as split:
            certain = [float(share) for share in split.fixed_shares(len(arm_ids))]
        case EpsilonGreedy(epsilon=epsilon, decay_observations=None):
            certain = [epsilon / len(arm_ids)] * len(arm_ids)
        case _:
            certain = [0.0] * len(arm_ids)
    floors = experiment.limits.floors_of(arm_ids)
    rest = max(1 - fsum(floors), 0.0)
    # As in `apply_limits`, where a cap below 1/n of n arms is read as 1/n.
    cap = max(experiment.limits.maximum_share, 1 / len(arm_ids))
    return {
        arm_id: min(floor + rest * share, cap)
        for arm_id, floor, share in zip(arm_ids, floors, certain, strict=True)
    }
