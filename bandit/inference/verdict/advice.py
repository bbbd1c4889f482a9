"""Advice from evidence and beliefs: promote, roll back, retire, or wait.

The rules, and the error rates that they were chosen for:

- **Promote** a challenger if its e-process, looked at where whole cycles end, has reached the level at which
  it is established, and is there now; if it is also believed best; and if it violates no guardrail. This
  takes at least two cycles: with a weekday rhythm that nets to zero, daily looks promote falsely .09 of the
  time, looks at whole weeks .003.
- **Roll back**, at any look, a challenger in service if a guardrail's e-value is at least
  (guardrails x challengers) / alpha.
- **Trip** if a challenger has many times the champion's harmful events. This claims no significance; it is a
  fuse.
- **Check** if decisions do not follow the shares: nothing is promoted or retired on such numbers. Roll back
  and trip still apply, as a precaution, which costs little if the alarm is a defect of counting.
- **Retire** challengers if, after two cycles, the champion's expected loss is at most a quarter of a per
  cent: better or not, there is nothing left to win.
"""

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from bandit.inference.verdict.assessment import Assessment, MetricEvidence
from bandit.inference.verdict.claims import Claim
from bandit.launch.gates import LEAST_PROBABILITY


class Advice(enum.StrEnum):
    """A recommended action."""

    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    TRIP = "trip"
    RETIRE = "retire"
    WAIT = "wait"
    CHECK = "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The constants of the rules.

    Attributes:
        cycle: Period of the traffic's rhythm; promotion looks at whole cycles only.
        least_cycles: Whole cycles before anything is promoted or retired.
        least_probability: P(best) that a promoted arm must have.
        negligible_loss: Largest expected loss of the champion, relative to its mean, that is negligible.
        trip_ratio: Challenger's rate of harmful events over the champion's from which `TRIP` is advised.
        trip_events: Fewest such events of the challenger.
    """

    cycle: timedelta = timedelta(days=7)
    least_cycles: int = 2
    least_probability: float = LEAST_PROBABILITY
    negligible_loss: float = 0.0025
    trip_ratio: float = 5.0
    trip_events: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """Harmful events so far, including open epochs.

    Attributes:
        events: Number of the challenger's events.
        ratio: The challenger's rate over the champion's by inverse propensity; infinite if the champion had
            no events.
        decisions: Decisions for the challenger meanwhile; units where these are counted.
        champion_events: Number of the champion's events meanwhile.
        champion_decisions: Decisions for the champion meanwhile.
    """

    events: int
    ratio: float
    decisions: int = 0
    champion_events: int = 0
    champion_decisions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """Beliefs from the posteriors.

    Attributes:
        probability_best: Arm number to P(best), of arms in service.
        champion_loss: The champion's expected loss relative to its mean; None if undefined.
        harms: (Metric name, arm number) to harmful events, of yes/no guardrails whose events are bad.
    """

    probability_best: Mapping[int, float]
    champion_loss: float | None = None
    harms: Mapping[tuple[str, int], Harm]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A recommended action, with the arm and the metric that it is about.

    Attributes:
        advice: The action.
        arm: Number of the challenger; None if the advice is about the whole experiment.
        metric: The guardrail that was violated; empty if the advice is about the reward.
        cycles: Number of whole cycles so far.
    """

    advice: Advice
    arm: int | None = None
    metric: str = ""
    cycles: int = 0


def rule(
    assessment: Assessment, beliefs: Beliefs, started_at: datetime, now: datetime, rules: Rules | None = None
) -> Ruling:
    """Return the most urgent action; WAIT if nothing is to be done.

    Args:
        assessment: The evidence.
        beliefs: The beliefs.
        started_at: When the experiment first ran; cycles are counted from then.
        now: The current time.
        rules: The constants; None for the defaults.
    """
    rules = rules or Rules()
    # If a clock was set back, `now` may be before the start: then no cycle is complete.
    cycles = max((now - started_at) // rules.cycle, 0)
    for name, arm in _fired_guardrails(assessment, beliefs):
        return Ruling(advice=Advice.ROLL_BACK, arm=arm, metric=name, cycles=cycles)
    for (name, arm), harm in beliefs.harms.items():
        if (
            arm in beliefs.probability_best
            and harm.events >= rules.trip_events
            and harm.ratio >= rules.trip_ratio
        ):
            return Ruling(advice=Advice.TRIP, arm=arm, metric=name, cycles=cycles)
    if assessment.is_alarming:
        return Ruling(advice=Advice.CHECK, cycles=cycles)
    winner = _winner(assessment, beliefs, started_at, rules)
    if winner is not None:
        return Ruling(advice=Advice.PROMOTE, arm=winner, cycles=cycles)
    loss = beliefs.champion_loss
    is_settled = loss is not None and loss <= rules.negligible_loss
    if is_settled and cycles >= rules.least_cycles and len(beliefs.probability_best) > 1:
        return Ruling(advice=Advice.RETIRE, cycles=cycles)
    return Ruling(advice=Advice.WAIT, cycles=cycles)


def established_at_cycles(evidence: MetricEvidence, started_at: datetime, rules: Rules) -> frozenset[int]:
    """Return the challengers that were established as better where a whole cycle ended, and are so now."""
    ends = set(_looks(evidence, started_at, rules))
    return frozenset(
        arm
        for arm, challenger in evidence.challengers.items()
        if isinstance(challenger.better, Claim) and _is_shown_at(challenger.better, ends)
    )


def _is_shown_at(claim: Claim, looks: Collection[int]) -> bool:
    """True if the claim holds now, and did at one of these rows or at the last row before it."""
    if not claim.is_established:
        return False
    rows, values = np.array(claim.rows), np.asarray(claim.process.log_values)
    places = np.searchsorted(rows, sorted(looks), side="right") - 1
    return bool(np.any(values[places[places >= 0]] >= claim.log_level))


def _looks(evidence: MetricEvidence, started_at: datetime, rules: Rules) -> list[int]:
    """Return the rows that complete a whole cycle: for each cycle's end, the row that ended nearest to it.

    The last row before it would not do: epochs may last a good part of a cycle, and one that ends a moment
    after the cycle would leave that part out. A look waits until a row has ended at or after the cycle's end,
    so that the chosen row never changes. Of rows that end together, as those of a first epoch do, it is the
    last.
    """
    if not evidence.row_ends:
        return []
    ends = np.array([(end - started_at) / rules.cycle for end in evidence.row_ends])
    cycles = range(rules.least_cycles, int(ends[-1]) + 1)
    nearest = {ends[np.abs(ends - cycle).argmin()] for cycle in cycles}
    return sorted(int(np.searchsorted(ends, end, side="right")) - 1 for end in nearest)


def _winner(assessment: Assessment, beliefs: Beliefs, started_at: datetime, rules: Rules) -> int | None:
    proven = established_at_cycles(assessment.reward, started_at, rules)
    believed = [arm for arm in proven if beliefs.probability_best.get(arm, 0.0) >= rules.least_probability]
    return min(believed, default=None)


def _fired_guardrails(assessment: Assessment, beliefs: Beliefs) -> list[tuple[str, int]]:
    """Return (metric, challenger) of each established claim of harm, for arms in service."""
    return [
        (name, arm)
        for name, evidence in assessment.others.items()
        for arm, challenger in evidence.challengers.items()
        if arm in beliefs.probability_best
        and isinstance(challenger.harm, Claim)
        and challenger.harm.is_established
    ]
