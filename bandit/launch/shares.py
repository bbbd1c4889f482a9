"""Shares in a launch: fixed ones for canary, ramp and holdback, and the policy's for the rest.

The *pool* is the champion and the challengers in the bandit stage. With F the sum of the fixed shares, an
arm of the pool with the minimum share f gets ``f + (1 - F - sum f) p``, where p is the policy's share in the
pool. The champion's minimum, its *reserve*, follows the role. The maximum share binds challengers alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import fsum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit.experiment import Experiment
from bandit.launch.plan import MOST_SHADOWS, StageKind
from bandit.launch.state import ArmState, Launch
from bandit.limits import FORGIVEN, Limits, stepped
from bandit.number_text import exact

_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareDemand:
    """What the arms of a launch ask for beside the policy's part.

    Attributes:
        fixed: Arm id to the share of its step or holdback, for arms that have one.
        floors: Arm id to the minimum share, for the pool; the champion's is its reserve.
        n_shadows: The number of arms in shadow.
    """

    fixed: Mapping[str, float]
    floors: Mapping[str, float]
    n_shadows: int = 0

    @property
    def total(self) -> float:
        """The sum; more than 1 can't be met."""
        return fsum((*self.fixed.values(), *self.floors.values()))

    @property
    def has_room(self) -> bool:
        """Whether it can be met, and no more arms are in shadow than may be at once."""
        return self.total <= 1 + FORGIVEN and self.n_shadows <= MOST_SHADOWS

    def __str__(self) -> str:
        """What is too much, as an error says it: the arms in shadow, or the parts and their sum."""
        if self.n_shadows > MOST_SHADOWS:
            return f"{self.n_shadows} arms in shadow, and at most {MOST_SHADOWS} may be at once"
        parts = [f"{arm_id} {exact(share)}" for arm_id, share in self.fixed.items()]
        parts += [f"{arm_id} at least {exact(floor)}" for arm_id, floor in self.floors.items() if floor]
        return f"{', '.join(parts)}: together {self.total:.6g}, more than 1"


def reserve_of(limits: Limits, champion: str) -> float:
    """Return the minimum share of the champion: that of the role or of the arm, whichever is larger."""
    return max(limits.champion_minimum_share, limits.floor_of(champion))


def demand_of(experiment: Experiment, launch: Launch) -> ShareDemand:
    """Return what the arms ask for in this state."""
    fixed: dict[str, float] = {}
    floors = {experiment.champion: reserve_of(experiment.limits, experiment.champion)}
    for arm_id, arm in launch.arms.items():
        step = arm.current
        if step is not None and step.share:
            fixed[arm_id] = step.share
        elif step is not None and step.stage.kind is StageKind.BANDIT:
            floors[arm_id] = experiment.limits.floor_of(arm_id)
        elif arm.state is ArmState.HOLDBACK and launch.holdback is not None:
            fixed[arm_id] = launch.holdback.share
    return ShareDemand(fixed=fixed, floors=floors, n_shadows=len(launch.samples))


def launch_shares(
    raw_shares: ArrayLike,
    arm_ids: Sequence[str],
    experiment: Experiment,
    launch: Launch,
    *,
    previous: ArrayLike | None = None,
    elapsed: timedelta = timedelta(0),
) -> NDArray[np.float64]:
    """Return the shares to serve, of shape (n_arms,), summing to 1 within 1e-9.

    Args:
        raw_shares: The policy's shares, not negative, shape (n_arms,); those of arms outside the pool are
            ignored.
        arm_ids: The arms, in this order.
        experiment: Has the limits and the champion.
        launch: Where each arm is.
        previous: The shares of the previous epoch; without them nothing bounds the step.
        elapsed: The time since that epoch began.

    An arm that is not in service has exactly 0, at once, whatever the maximum step is; the champion takes its
    traffic. If fixed shares and floors ask for more than there is, floors are scaled down: fixed shares come
    first.
    """
    demand = demand_of(experiment, launch)
    fixed = np.array([demand.fixed.get(arm_id, 0.0) for arm_id in arm_ids])
    floors = np.array([demand.floors.get(arm_id, 0.0) for arm_id in arm_ids])
    in_pool = np.array([arm_id in demand.floors for arm_id in arm_ids])
    caps = np.array(
        [1.0 if arm_id == experiment.champion else experiment.limits.maximum_share for arm_id in arm_ids]
    )
    left = max(1 - fixed.sum(), 0.0)
    if floors.sum() > left:
        floors *= left / floors.sum()
    wish = _proportional(np.where(in_pool, np.asarray(raw_shares, dtype=np.float64), 0.0), in_pool)
    target = fixed + _capped(floors + (left - floors.sum()) * wish, np.maximum(caps, floors), in_pool)
    step = experiment.limits.maximum_step_per_hour
    if previous is not None and step is not None:
        has_traffic = in_pool | (fixed > 0)
        start = np.where(has_traffic, np.asarray(previous, dtype=np.float64), 0.0)
        if start.any():
            start[arm_ids.index(experiment.champion)] += max(1 - start.sum(), 0.0)
        target = stepped(start, target, step * (elapsed / _HOUR))
    return np.asarray(target / target.sum(), dtype=np.float64)


def _proportional(values: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the values scaled to the sum 1; even values over the members if all are 0."""
    total = values.sum()
    return np.asarray(values / total if total > 0 else members / members.sum())


def _capped(
    shares: NDArray[np.float64], caps: NDArray[np.float64], in_pool: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Move what exceeds the caps to arms of the pool below theirs, in proportion; the champion has no cap."""
    capped = shares
    is_full = np.zeros(shares.size, dtype=bool)
    while (is_over := (capped > caps + 1e-12) & in_pool).any():
        is_full |= is_over
        rest = in_pool & ~is_full
        free = shares.sum() - caps[is_full].sum()
        capped = np.where(is_full, caps, _proportional(np.where(rest, shares, 0.0), rest) * free)
    return capped
