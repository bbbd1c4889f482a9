"""Units of analysis: evidence that counts each unit once, and how often units repeat otherwise.

A sticky unit that returns is not a new draw: its hash is the same in every epoch. So with the analysis unit
`unit`, evidence counts a unit once, in the epoch and for the arm of its first policy decision, with its
outcomes summed over the metric's window from then on, whichever arms it met meanwhile (intention to treat).
If arms are equal, the unit's outcomes do not depend on its arm, and the arm was drawn with the first epoch's
shares, which is all that inference needs. Unit facts have the shape of facts, so the same folds read both.

With the analysis unit `decision`, no unit is remembered. Decisions are counted in 256 groups by a byte of the
unit's hash. Their spread shows how often units repeat, since a unit's decisions all fall into one group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

from bandit.facts import Facts
from bandit.metric import N_STEPS, Metric

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
class UnitFacts:
    """An experiment's units, read in one database snapshot.

    Attributes:
        facts: Facts that count units instead of decisions, each under its first epoch and arm, as `policy`.
            A unit's outcome is the sum of its outcomes within the window from its first decision, at most
            the metric's maximum (above the minimum), so that a yes/no metric counts whether there was any
            success. Empty where the analysis unit is `decision`.
        n_decisions: Policy decisions of those units.
        groups: Group to policy decisions with a unit, where the analysis unit is `decision`.
    """

    facts: Facts
    n_decisions: int
    groups: Mapping[int, int]


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
    def explanation(self) -> str:
        """Why evidence is withheld and what to do, for people; a clause without a full stop."""
        return (
            f"units come back: the unit of an average decision made about {self.decisions_a_unit:.2g} "
            f"decisions, and above {TOLERATED_REPEATS:g} evidence that counts decisions finds differences "
            "where there are none; "
            'declare analysis_unit = "unit" in the next experiment to count every unit once'
        )


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


def largest_quanta(metric: Metric) -> int:
    """Return the metric's maximum in quanta, at which the outcome of a unit is capped.

    >>> largest_quanta(Metric(name="click"))
    1
    """
    return N_STEPS if metric.is_real else int(metric.maximum)
