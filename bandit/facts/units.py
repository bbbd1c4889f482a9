"""Units of analysis: evidence that counts each unit once, and how often units repeat otherwise.

A sticky unit that returns is not a new draw: its hash is the same in every epoch. So with the analysis unit
`unit`, evidence counts a unit once, in the epoch and for the arm of its first policy decision, with its
outcomes summed over the metric's window from then on, whichever arms it met meanwhile (intention to treat).
If arms are equal, the unit's outcomes do not depend on its arm, and the arm was drawn with the first epoch's
shares, which is all that inference needs. Unit facts have the shape of facts, so the same folds read both.

With the analysis unit `decision`, no unit is remembered. Decisions are counted in 256 groups by a byte of the
unit's hash. Their spread shows how often units repeat, since a unit's decisions all fall into one group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, Self

from bandit.facts import Facts
from bandit.metric import N_STEPS, Metric

N_STEERING: Final = 3
"""With how many decisions, from its first, a unit steers where units are counted.

Simulated: 3,000 units of Pareto use, 16,000 decisions, rates .10 and .13, 150 runs each (standard error .01
to .04). Regret as a share of the worst possible, if all decisions steer, the first, the first three or the
first ten: .56, .25, .24 and .29 with one unit that makes 75 % of the decisions and always succeeds, and .14,
.16, .15 and .16 without it. With it the wrong arm leads in .57 of the runs if all decisions steer, and in .03
if the first three do.
"""

N_PARTS: Final = 5
"""Parts of the first epoch: 1/16, 1/16, 1/8, 1/4 and 1/2 of the units, by the top four bits of the mark."""

HEAVY_SHARE: Final = 0.05
"""A unit, or a group of them, is heavy if it made more than this share of the policy decisions."""

_HEAVY_MULTIPLE: Final = 20
"""And if it made more than this many times the decisions of an average unit, so that few units are not all
heavy."""

N_GROUPS: Final = 256
"""The number of groups of decisions; a decision's group is the first byte of its unit's hash."""

TOLERATED_REPEATS: Final = 1.5
"""Evidence over decisions is withheld above this many decisions a unit, weighted by decisions.

Simulated: 20,000 decisions, equal arms at a rate of .1, units that succeed always or never (the worst case),
60 looks with an AIPW e-process at level .05, shares 50/50 and 80/20, 2,000 runs each (standard error .005).
False positives: .01 at 1 decision a unit; at 1.5 .026 and .015 (spread) or .023 and .023 (few units with 100
each); at 2 .051 and .035, or .046 and .050; at 3 .08; at 20 .30. So 1.5 keeps the level, with room for the
estimate's error of 9 %; units that do not repeat exceed it by chance once in 10^6 experiments.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringFacts:
    """What units steer with on one metric.

    Attributes:
        facts: A unit's first three policy decisions and their outcomes in time, under the epoch and arm of
            the first. A decision is counted once its own window has closed, so all epochs count as closed.
        n_open: Arm number to outcomes in time of such decisions whose window is open.
    """

    facts: Facts
    n_open: Mapping[int, int]


NO_STEERING: Final = SteeringFacts(facts=Facts(decisions={}, outcomes={}), n_open={})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavyUnit:
    """A unit that made too many of the policy decisions; or a group of units, where decisions are counted.

    Attributes:
        mark: The unit's hash, 6 bytes; None for a group.
        group: The group, in [0, 256): the first byte of the mark.
        n_decisions: Its policy decisions.
        share: Their part of all policy decisions, in (0.05, 1].
        arm: Number of the arm of its first decision; None for a group.
    """

    mark: bytes | None
    group: int
    n_decisions: int
    share: float
    arm: int | None

    @classmethod
    def of_mark(cls, mark: bytes, n_decisions: int, n_all: int, arm: int) -> Self:
        """Make one of a unit with `n_decisions` of `n_all` policy decisions."""
        return cls(mark=mark, group=mark[0], n_decisions=n_decisions, share=n_decisions / n_all, arm=arm)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """An experiment's units, read in one database snapshot.

    Attributes:
        facts: Facts that count units instead of decisions, each under its first epoch and arm, as `policy`.
            A unit's outcome is the sum of its outcomes within the window from its first decision, at most
            the metric's maximum (above the minimum), so that a yes/no metric counts whether there was any
            success. Empty where the analysis unit is `decision`.
        n_decisions: Policy decisions of those units.
        groups: Group to policy decisions with a unit, where the analysis unit is `decision`.
        n_units: How many units there are.
        heavy: Units, or groups where decisions are counted, that made too many of the decisions, the largest
            first; at most 19.
    """

    facts: Facts
    n_decisions: int
    groups: Mapping[int, int]
    n_units: int = 0
    heavy: Sequence[HeavyUnit] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatEstimate:
    """An estimate of how often units repeat.

    Attributes:
        n_decisions: Policy decisions with a unit, from which it was estimated.
        decisions_a_unit: Estimate of Σ n² / Σ n over units with n decisions: how many decisions the unit of
            an average decision made, at least 1. This is the factor that inflates variance, so it shows one
            unit shared by all anonymous callers, though the plain mean is near 1.
        standard_error: Of that estimate, if no unit dominates.
    """

    n_decisions: int
    decisions_a_unit: float
    standard_error: float

    @property
    def is_too_much(self) -> bool:
        """True if evidence that counts decisions must be withheld."""
        return self.decisions_a_unit > TOLERATED_REPEATS

    @property
    def _shown(self) -> str:
        """The estimate with two figures, or without decimals from ten on."""
        digits = ".2g" if self.decisions_a_unit < _TEN else ",.0f"
        return format(self.decisions_a_unit, digits)

    @property
    def explanation(self) -> str:
        """Why evidence is withheld and what to do, for people; a clause without a full stop."""
        return (
            f"units come back: the unit of an average decision made about {self._shown} "
            f"decisions, and above {TOLERATED_REPEATS:g} evidence that counts decisions finds differences "
            "where there are none; "
            'declare analysis_unit = "unit" in the next experiment to count every unit once'
        )


_TEN: Final = 10


def estimate_repeats(groups: Mapping[int, int]) -> RepeatEstimate:
    """Estimate how often units repeat from the decisions with a unit by group.

    With g groups, group counts c and N = Σ c, the expectation of Σ c² - N²/g is (1 - 1/g) Σ n²: Pearson's
    statistic over its degrees of freedom. Its relative error is sqrt(2 / (g - 1)), 9 %.

    Args:
        groups: Group, in [0, 256), to decisions; groups without any may be left out. Decisions without a unit
            are in no group.

    >>> estimate_repeats({7: 500}).decisions_a_unit
    500.0
    >>> estimate_repeats({}).is_too_much
    False
    """
    n_decisions = sum(groups.values())
    spread = N_GROUPS * sum(count * count for count in groups.values()) - n_decisions**2
    estimate = max(spread / ((N_GROUPS - 1) * n_decisions), 1.0) if n_decisions else 1.0
    return RepeatEstimate(
        n_decisions=n_decisions,
        decisions_a_unit=estimate,
        standard_error=estimate * sqrt(2 / (N_GROUPS - 1)),
    )


def least_heavy(n_decisions: int, n_units: int) -> int:
    """Return the fewest decisions of a heavy unit, if `n_units` units made `n_decisions`, both at least 1.

    >>> least_heavy(4_000, 1_001), least_heavy(400, 100)
    (201, 81)
    """
    return int(n_decisions * max(HEAVY_SHARE, _HEAVY_MULTIPLE / n_units)) + 1


def heavy_groups(groups: Mapping[int, int], n_decisions: int) -> tuple[HeavyUnit, ...]:
    """Return the groups with too many of the decisions, the largest first.

    A group is expected to have 1/256. Of fewer than 400 decisions it takes more than 20, as if each were a
    unit's only one; units that do not repeat get there by chance less than once in 10^13 experiments.

    Args:
        groups: Group, in [0, 256), to policy decisions with a unit.
        n_decisions: All policy decisions, those without a unit included.

    >>> [(each.group, each.n_decisions) for each in heavy_groups({7: 500, 9: 20}, 600)]
    [(7, 500)]
    """
    if not n_decisions:
        return ()
    least = least_heavy(n_decisions, n_decisions)
    found = sorted((-count, group) for group, count in groups.items() if count >= least)
    return tuple(
        HeavyUnit(mark=None, group=group, n_decisions=-count, share=-count / n_decisions, arm=None)
        for count, group in found
    )


def largest_quanta(metric: Metric) -> int:
    """Return the metric's maximum in quanta, at which the outcome of a unit is capped.

    >>> largest_quanta(Metric(name="click"))
    1
    """
    return N_STEPS if metric.is_real else int(metric.maximum)
