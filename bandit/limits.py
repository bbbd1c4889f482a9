"""Limits on shares: floors, caps, ramps, warm-up, and arms taken out.

`apply_limits` shapes a policy's shares in this order:

1. Arms that are not eligible get exactly 0; the policy's shares are scaled up over the others.
2. Each *new* arm gets an equal part, 1/n of n eligible arms; the policy divides the rest among the others.
3. Minimum shares are additive, ``f + (1 - sum f) * p``: clip-and-renormalise would end below the floor. So a
   new arm's equal part comes out of what the floors leave, and never out of the champion's reserve.
4. What exceeds the maximum share goes to the arms below it in proportion to their shares.
5. Shares move from the previous epoch's to these along a straight line, no faster than the maximum step. On
   that line the sum, the floors and the caps hold if the previous shares kept to them. Where those did not (a
   floor was raised, an arm is new), shares approach the limit at the same pace.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import fsum, isfinite
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bandit.number_text import beside, exact
from bandit.wrong_types import require, require_number, require_numbers

_HOUR = timedelta(hours=1)
_ROUNDING = 1e-12

FORGIVEN: Final = 1e-5
"""How far floors and caps may miss what they must add up to: sixths written to six digits sum to 1.000002."""


class InfeasibleLimitsError(ValueError):
    """Limits that no shares can meet: `demand` is what they ask for, `rule` is what they may ask for."""

    def __init__(self, demand: str, rule: str) -> None:
        self.demand = demand
        self.rule = rule
        super().__init__(f"{demand}; {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on the shares of an experiment; the defaults bound nothing.

    Attributes:
        minimum_share: floor of every eligible arm, in [0, 1].
        minimum_shares: floors of single arms by id, in place of `minimum_share`, such as the champion's
            reserve.
        maximum_share: cap of every arm, in (0, 1].
        maximum_step_per_hour: how far the share of any arm may move per hour; None for no bound.
        warm_up_decisions: an arm with fewer decisions is new; 0 for no such bound.
        warm_up_duration: an arm of this age is no longer new, however few decisions it has had; None for no
            such bound.
        champion_minimum_share: floor of the champion in a launch, in [0, 1]; it follows the role, not the
            arm.

    Raises:
        TypeError: a bound has a wrong type.
        ValueError: a bound is outside its range.
    """

    minimum_share: float = 0.0
    minimum_shares: Mapping[str, float] = field(default_factory=dict)
    maximum_share: float = 1.0
    maximum_step_per_hour: float | None = None
    warm_up_decisions: int = 0
    warm_up_duration: timedelta | None = None
    champion_minimum_share: float = 0.0

    def __post_init__(self) -> None:
        self._require_types()
        for floor in (self.minimum_share, self.champion_minimum_share, *self.minimum_shares.values()):
            if not 0 <= floor <= 1:
                raise ValueError(f"a minimum share must be in [0, 1], got {exact(floor)}")
        if not 0 < self.maximum_share <= 1:
            raise ValueError(f"maximum share must be in (0, 1], got {exact(self.maximum_share)}")
        step = self.maximum_step_per_hour
        if step is not None and not (step > 0 and isfinite(step)):
            raise ValueError(f"maximum step per hour must be positive and finite, got {exact(step)}")
        if self.warm_up_decisions < 0:
            raise ValueError(f"warm-up decisions must not be negative, got {self.warm_up_decisions}")
        if self.warm_up_duration is not None and self.warm_up_duration <= timedelta(0):
            raise ValueError(f"warm-up duration must be positive, got {self.warm_up_duration}")
        object.__setattr__(self, "minimum_shares", dict(self.minimum_shares))

    def _require_types(self) -> None:
        for name in ("minimum_share", "maximum_share", "champion_minimum_share", "warm_up_decisions"):
            require_number(name, getattr(self, name))
        require_numbers("minimum_shares", self.minimum_shares)
        if self.maximum_step_per_hour is not None:
            require_number("maximum_step_per_hour", self.maximum_step_per_hour)
        require("warm_up_duration", self.warm_up_duration, timedelta | None, "a timedelta or None")

    def floor_of(self, arm_id: str) -> float:
        """The minimum share of one arm."""
        return self.minimum_shares.get(arm_id, self.minimum_share)

    def floors_of(self, arm_ids: Sequence[str]) -> list[float]:
        """Return the minimum shares of all eligible arms, scaled down to a sum of 1 if rounding made it more.

        Raises:
            InfeasibleLimitsError: they sum to more than 1 by more than `FORGIVEN`.
        """
        floors = [self.floor_of(arm_id) for arm_id in arm_ids]
        total = fsum(floors)
        if total <= 1:
            return floors
        if total > 1 + FORGIVEN:
            self.require_feasible(arm_ids)
        return [floor / total for floor in floors]

    def is_new(self, arm: "ArmStanding") -> bool:
        """True if the arm is warming up: it has reached none of the warm-up bounds that are set."""
        if self.warm_up_decisions == 0:
            return self.warm_up_duration is not None and arm.age < self.warm_up_duration
        is_young = self.warm_up_duration is None or arm.age < self.warm_up_duration
        return is_young and arm.decisions < self.warm_up_decisions

    def require_feasible(self, eligible_ids: Iterable[str]) -> None:
        """Check that some shares of these arms meet the limits; called when an experiment is configured.

        Raises:
            InfeasibleLimitsError: the floors sum to more than 1, the caps to less than 1, or a floor is above
                the cap, each by more than `FORGIVEN`.
        """
        floors = {arm_id: self.floor_of(arm_id) for arm_id in eligible_ids}
        n_eligible = len(floors)
        total = fsum(floors.values())
        if total > 1 + FORGIVEN:
            raise InfeasibleLimitsError(
                f"minimum shares sum to {beside(total, 1)} over {n_eligible} eligible arms",
                "their sum must be at most 1",
            )
        if n_eligible and self.maximum_share * n_eligible < 1 - FORGIVEN:
            cap = exact(self.maximum_share)
            raise InfeasibleLimitsError(
                f"{n_eligible} eligible arms with at most {cap} each sum to less than 1",
                f"the maximum share must be at least {1 / n_eligible:.6g}",
            )
        for arm_id, floor in floors.items():
            if floor > self.maximum_share + FORGIVEN:
                raise InfeasibleLimitsError(
                    f"the minimum share of arm {arm_id!r} is {exact(floor)}",
                    f"it must not exceed the maximum share, {exact(self.maximum_share)}",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStanding:
    """An arm's state when shares are computed.

    Attributes:
        id: the arm's id.
        eligible: False once an operator or a guardrail has taken it out.
        decisions: how many decisions it has had; for warm-up.
        age: time since it joined the experiment; for warm-up.
    """

    id: str
    eligible: bool = True
    decisions: int = 0
    age: timedelta = timedelta(0)


def apply_limits(
    raw_shares: ArrayLike,
    arms: Sequence[ArmStanding],
    limits: Limits,
    *,
    previous: ArrayLike | None = None,
    elapsed: timedelta = timedelta(0),
) -> NDArray[np.float64]:
    """Return the shares to serve, of shape (n_arms,), summing to 1 within 1e-9.

    `raw_shares` are a policy's, shape (n_arms,), not negative; those of arms that are new or not eligible are
    ignored. `previous` holds the shares of the previous epoch (0 for an arm that it did not have), and
    `elapsed` is the time since that epoch *began*; without `previous` nothing bounds the step. An arm that is
    taken out drops to 0 at once: its previous share is first spread over the others in proportion, exempt
    from the bound on steps. Taking arms out never makes limits infeasible: a maximum share below 1/n of n
    eligible arms is read as 1/n.

    Raises:
        InfeasibleLimitsError: the floors of the eligible arms sum to more than 1.
        ValueError: shapes differ, a share is negative or not finite, or no arm is eligible.

    >>> arms = [ArmStanding(id="champion"), ArmStanding(id="a"), ArmStanding(id="b", eligible=False)]
    >>> limits = Limits(minimum_share=0.05, minimum_shares={"champion": 0.2})
    >>> apply_limits([0.1, 0.8, 0.1], arms, limits).round(4).tolist()
    [0.2833, 0.7167, 0.0]
    """
    raw = _checked_shares("raw shares", raw_shares, len(arms))
    eligible = np.array([arm.eligible for arm in arms], dtype=bool)
    if not eligible.any():
        raise ValueError("no arm is eligible")
    kept = [arm for arm in arms if arm.eligible]
    floors = np.array(limits.floors_of([arm.id for arm in kept]))
    wish = _warmed_up(raw[eligible], np.array([limits.is_new(arm) for arm in kept]))
    target = _capped(floors + max(0.0, 1 - floors.sum()) * wish, max(limits.maximum_share, 1 / len(kept)))
    if previous is not None and limits.maximum_step_per_hour is not None:
        bound = limits.maximum_step_per_hour * (elapsed / _HOUR)
        target = stepped(_checked_shares("previous shares", previous, len(arms))[eligible], target, bound)
    shares = np.zeros(len(arms))
    shares[eligible] = target / target.sum()
    return shares


def draws_above_floors(
    draws: NDArray[np.int64], floors: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return a policy's draws, changed so that floors hold: `apply_limits` for simulated choices.

    Additive floors are a mixture, ``f + (1 - sum f) * p``: an arm gets the draw with the probability of its
    floor, otherwise the policy's choice stands. `draws` holds arms' indices in any shape, `floors` has shape
    (n_arms,); the result has the shape of `draws`.

    Raises:
        InfeasibleLimitsError: the floors sum to more than 1.
        ValueError: a floor is negative or not finite.
    """
    edges = np.cumsum(_checked_shares("floors", floors, np.size(floors)))
    if edges[-1] > 1 + FORGIVEN:
        raise InfeasibleLimitsError(
            f"minimum shares sum to {beside(edges[-1], 1)}", "their sum must be at most 1"
        )
    lots = np.searchsorted(edges, rng.random(draws.shape), side="right")
    return np.asarray(np.where(lots < edges.size, lots, draws), dtype=np.int64)


def _checked_shares(name: str, values: ArrayLike, n_arms: int) -> NDArray[np.float64]:
    shares = np.asarray(values, dtype=np.float64)
    if shares.shape != (n_arms,):
        raise ValueError(f"{name} must have shape ({n_arms},), got {shares.shape}")
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise ValueError(f"{name} must be finite and not negative")
    return shares


def _proportional(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights scaled to sum to 1; equal parts if all are 0."""
    total = weights.sum()
    return weights / total if total > 0 else np.full_like(weights, 1 / weights.size)


def _warmed_up(raw: NDArray[np.float64], is_new: NDArray[np.bool_]) -> NDArray[np.float64]:
    equal = 1 / raw.size
    wish = np.full_like(raw, equal)
    if not is_new.all():
        wish[~is_new] = _proportional(raw[~is_new]) * equal * (~is_new).sum()
    return wish


def _capped(shares: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Move what exceeds the cap to the other arms until no arm exceeds it: at most n_arms rounds."""
    capped = shares.copy()
    is_full = np.zeros(shares.size, dtype=bool)
    while (is_over := capped > cap + _ROUNDING).any():
        is_full |= is_over
        capped[is_full] = cap
        capped[~is_full] = _proportional(shares[~is_full]) * (1 - cap * is_full.sum())
    return capped


def stepped(previous: NDArray[np.float64], target: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Return the shares on the straight line from the previous ones to the target that `bound` allows.

    Args:
        previous: The shares before, not negative; scaled to the sum 1. If all are 0, nothing bounds the step.
        target: Where they go.
        bound: How far any share may move.
    """
    if previous.sum() <= 0:
        return target
    start = _proportional(previous)
    move = target - start
    furthest = np.abs(move).max()
    return target if furthest <= bound else start + move * (max(bound, 0.0) / furthest)
