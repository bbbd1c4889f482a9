"""One look at a launch: its figures and findings, of one snapshot and by the rules of the report."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from bandit.decision_id import Basis
from bandit.inference.data.floors import smallest_floors
from bandit.inference.planning.power import Forecast
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.advice import Rules, established_at_cycles
from bandit.inference.verdict.assessment import Assessment, assess
from bandit.inference.verdict.claims import ChallengerEvidence, Claim
from bandit.launch.gates import ArmFigures, Lift, Look, VisibleLift
from bandit.launch.launching import Launching
from bandit.launch.mirroring import count_shadow
from bandit.launch.state import ArmLaunch, ArmState
from bandit.metric import Direction
from server.services.experiments.epochs import state_of
from server.services.reports.beliefs import ArmBeliefs
from server.services.reports.evidence import EvidenceInput, evidence_input, rules_of
from server.services.reports.launch.claims import claims_about
from server.services.reports.launch.findings import find_harm, find_signals
from server.services.reports.launch.silence import POSTED, silence_of
from server.services.reports.outlook import look_out
from server.store.records import ReportFacts, State

_LIFT: Final = 0.05
"""The improvement whose time is told where the plan declares no least lift."""


def look_at(
    known: ReportFacts,
    lag: timedelta,
    now: datetime,
    *,
    is_clock_doubted: bool = False,
    looks_ahead: bool = True,
) -> Look | None:
    """Look at an experiment; None if it has no launch.

    Args:
        known: The store's data.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment.
        is_clock_doubted: Whether the clock is in doubt.
        looks_ahead: Whether to say how long an improvement takes to be seen, some 20 ms for each arm.
    """
    record = known.found.record
    if record.launch is None:
        return None
    state = state_of(record, known.found.epochs, known.found.facts, lag, now, known.steering)
    inputs = evidence_input(state, known.declarations, known.units)
    floors = smallest_floors(known.declarations, record.arm_numbers)
    assessment = assess(state, floors, grid=inputs.grid, withheld=inputs.withheld)
    beliefs = ArmBeliefs(record, state)
    return look_with(
        known,
        inputs,
        assessment,
        beliefs.probabilities,
        is_clock_doubted=is_clock_doubted,
        looks_ahead=looks_ahead,
    )


def look_with(
    known: ReportFacts,
    inputs: EvidenceInput,
    assessment: Assessment,
    probability_best: Mapping[int, float],
    *,
    is_clock_doubted: bool = False,
    looks_ahead: bool = True,
) -> Look | None:
    """Look at an experiment whose evidence is known; None if it has no launch.

    Args:
        known: The store's data.
        inputs: The input of the evidence.
        assessment: The evidence.
        probability_best: Arm number to P(best), of arms in service.
        is_clock_doubted: Whether the clock is in doubt.
        looks_ahead: Whether to say how long an improvement takes to be seen, some 20 ms for each arm.
    """
    record = known.found.record
    if record.launch is None:
        return None
    launching = Launching(experiment=record.experiment, launch=record.launch)
    reader = _FigureReader(known, inputs, assessment, probability_best, rules_of(launching.plan))
    figures = {arm_id: reader.figures(arm_id) for arm_id in record.launch.arms}
    if looks_ahead:
        figures = _with_outlook(figures, known, launching, inputs)
    ids = {number: arm_id for arm_id, number in record.arm_numbers.items()}
    reward = record.experiment.metric(record.experiment.reward_metric)
    claims = claims_about(known, inputs, assessment)
    return Look(
        at=inputs.state.now,
        launching=launching,
        figures=figures,
        is_running=record.state is State.RUNNING,
        is_clock_doubted=is_clock_doubted,
        is_alarming=assessment.is_alarming,
        skewed=_skewed(assessment.sample_ratio, ids),
        harmed=find_harm(launching, inputs, assessment, claims),
        signals=find_signals(claims),
        claims=claims,
        silence=silence_of(known, inputs.state.now),
        window=reward.window or timedelta(),
        cycle_ends_at=_cycle_end(record.started_at, launching.plan.cycle, inputs.state.now),
    )


class _FigureReader:
    """Reads the figures of each arm from one snapshot."""

    def __init__(
        self,
        known: ReportFacts,
        inputs: EvidenceInput,
        assessment: Assessment,
        probability_best: Mapping[int, float],
        rules: Rules,
    ) -> None:
        self._known = known
        self._record = known.found.record
        self._assessment = assessment
        self._probability_best = probability_best
        started_at = self._record.started_at or inputs.state.now
        self._winners = established_at_cycles(assessment.reward, started_at, rules)
        self._rules = rules
        epochs = known.found.epochs
        self._revisions = np.array([epoch.revision for epoch in epochs], dtype=np.int64)
        self._numbers = np.array([epoch.number for epoch in epochs], dtype=np.int64)

    def figures(self, arm_id: str) -> ArmFigures:
        """Return the figures of one arm in its current visit."""
        record, found = self._record, self._known.found
        assert record.launch is not None  # noqa: S101 - a look is at a launch
        visit = record.launch.arms[arm_id]
        arm, champion = record.arm_numbers[arm_id], record.arm_numbers[record.experiment.champion]
        first = self._first_epoch(visit.revision)
        if visit.state is ArmState.SHADOW:
            return self._in_shadow(arm, visit)
        decisions, outcomes = self._counts(arm, first)
        of_champion = self._counts(champion, first)
        covered = self._covered(arm, visit)
        challenger = self._assessment.reward.challengers.get(arm)
        claim = None if challenger is None or not isinstance(challenger.better, Claim) else challenger.better
        probability = self._probability_best.get(arm, 0.0)
        return ArmFigures(
            decisions=decisions,
            outcomes=outcomes,
            expected_outcomes=decisions * of_champion[1] / of_champion[0] if of_champion[0] else 0.0,
            covered=sum(covered.values(), timedelta()),
            covered_by_cycle=covered,
            share=found.epochs[-1].shares.get(arm, 0.0) if found.epochs else 0.0,
            evidence=None if claim is None else claim.process.log_value,
            unsaid=_unsaid(challenger),
            level=0.0 if claim is None else claim.log_level,
            lift=(lift := _lift(challenger)),
            most_lift=_most_lift(lift, self._assessment.reward.metric.direction),
            probability_best=probability,
            led_at=None if claim is None else _led_at(claim, self._assessment.reward.row_ends),
            is_winner=arm in self._winners and probability >= self._rules.least_probability,
        )

    def _in_shadow(self, arm: int, visit: ArmLaunch) -> ArmFigures:
        """Return the figures of an arm in shadow."""
        found = self._known.found
        seen = count_shadow(arm, found.epochs, found.facts, self._known.shadows, since=visit.revision)
        covered = self._covered(arm, visit)
        return ArmFigures(
            decisions=seen.n_decisions,
            outcomes=seen.n_pairs,
            covered=sum(covered.values(), timedelta()),
            covered_by_cycle=covered,
            mirrored=seen.mirrored,
        )

    def _covered(self, arm: int, visit: ArmLaunch) -> Mapping[int, timedelta]:
        """Return the time covered in each cycle of a visit."""
        stored = self._known.looks.get(arm)
        return stored.covered if stored is not None and stored.entry == visit.entry else {}

    def _first_epoch(self, revision: int) -> int:
        """Return the number of the first epoch of this revision or a later one."""
        later = self._numbers[self._revisions >= revision]
        return int(later[0]) if len(later) else int(self._numbers[-1]) + 1 if len(self._numbers) else 1

    def _counts(self, arm: int, first: int) -> tuple[int, int]:
        """Return an arm's policy decisions since an epoch, and the outcomes posted for them."""
        facts, record = self._known.found.facts, self._record
        columns = facts.decision_columns
        cells = columns.cells
        own = (cells.arm == arm) & (cells.basis == Basis.POLICY) & (cells.epoch >= first)
        outcomes = facts.outcome_columns.get(record.metric_numbers[record.experiment.reward_metric])
        n_outcomes = 0
        if outcomes is not None:
            cells = outcomes.cells
            rows = (cells.arm == arm) & (cells.basis == Basis.POLICY) & (cells.epoch >= first)
            n_outcomes = int(outcomes.tallies[rows][:, POSTED].sum())
        return int(columns.counts[own].sum()), n_outcomes


def _with_outlook(
    figures: Mapping[str, ArmFigures], known: ReportFacts, launching: Launching, inputs: EvidenceInput
) -> dict[str, ArmFigures]:
    """Return the figures, for arms that wait for evidence with how long an improvement takes to be seen."""
    state, found = inputs.state, dict(figures)
    goal = launching.experiment.metric(launching.experiment.reward_metric)
    lift = launching.plan.least_lift or _LIFT
    floors = smallest_floors(known.declarations, state.arm_numbers)
    for arm_id in launching.launch.in_state(ArmState.BANDIT):
        own = figures[arm_id]
        if own.evidence is None or own.evidence >= own.level:
            continue
        outlook = look_out(
            state,
            inputs.evidence_facts,
            floors,
            started_at=known.found.record.started_at or state.now,
            grid=inputs.grid,
            withheld=inputs.withheld,
            lift=lift if goal.direction is Direction.MAXIMIZE else -lift,
            challenger=arm_id,
            seeks_remedy=False,
        )
        if isinstance(outlook.forecast, Forecast):
            visible = VisibleLift(lift=outlook.lift, days=outlook.forecast.days_at_half)
            found[arm_id] = replace(own, visible=visible)
    return found


def _skewed(check: SampleRatio | CannotSay, ids: Mapping[int, str]) -> tuple[str, float] | None:
    """Return the arm that is furthest from its share, and by what part of it."""
    if not isinstance(check, SampleRatio) or check.n_foreign:  # then it is who has no share that is too many
        return None
    deviations = {arm: abs(z) for arm, z in check.z.items() if z is not None and check.expected[arm] > 0}
    if not deviations:
        return None
    arm = max(deviations, key=lambda each: deviations[each])
    return ids[arm], check.observed[arm] / check.expected[arm] - 1


def _led_at(claim: Claim, row_ends: Sequence[datetime]) -> datetime | None:
    """Return when a claim was first established, if it no longer is."""
    row = claim.first_established
    return row_ends[row] if claim.is_lapsed and row is not None else None


def _cycle_end(started_at: datetime | None, cycle: timedelta, now: datetime) -> datetime | None:
    """Return when the cycle under way ends, counted from the experiment's start."""
    return None if started_at is None else started_at + (max((now - started_at) // cycle, 0) + 1) * cycle


def _unsaid(challenger: ChallengerEvidence | None) -> str:
    """Return why there is no evidence on a challenger; empty if there is."""
    if challenger is None or isinstance(challenger.better, Claim):
        return ""
    return challenger.better.explanation


def _lift(challenger: ChallengerEvidence | None) -> Lift | None:
    """Return a challenger's relative change; None where it has no value."""
    comparison = None if challenger is None else challenger.comparison
    if not isinstance(comparison, Comparison) or not isinstance(comparison.lift, Interval):
        return None
    estimate = comparison.relative
    if estimate is None:
        return None
    return Lift(estimate=estimate, lower=comparison.lift.lower, upper=comparison.lift.upper)


def _most_lift(lift: Lift | None, direction: Direction) -> float | None:
    """Return the bound of what a challenger gains, relative to the champion; None if there is none."""
    bound = math.inf if lift is None else lift.upper if direction is Direction.MAXIMIZE else -lift.lower
    return bound if math.isfinite(bound) else None
