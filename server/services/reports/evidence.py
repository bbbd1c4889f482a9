"""The report's evidence: the assessment, its ruling, and how long a lift would take to be seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import fsum, inf
from typing import Final

import numpy as np

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import AnalysisUnit, Experiment
from bandit.facts import Facts
from bandit.facts.grid import FactGrid
from bandit.facts.units import RepeatEstimate, UnitFacts, estimate_repeats
from bandit.inference.data.floors import smallest_floors
from bandit.inference.data.table import EvidenceTable, ValueScale, open_table
from bandit.inference.planning.power import Forecast, Plan, forecast_report
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.design import Design
from bandit.inference.verdict.advice import Beliefs, Harm, Ruling, rule
from bandit.inference.verdict.assessment import Assessment, assess, grid_of
from bandit.inference.verdict.claims import ALPHA
from bandit.metric import Direction
from server.store.records import ExperimentRecord

_DEFAULT_LIFT: Final = 0.1
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The time until a relative lift of the reward metric would be seen.

    Attributes:
        lift: The relative lift; positive means more of the metric.
        decisions_per_day: Policy decisions a day so far.
        forecast: When it would be seen, from the start.
    """

    lift: float
    decisions_per_day: float
    forecast: Forecast | CannotSay


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSummary:
    """Evidence, the ruling on it, and the outlook.

    Attributes:
        assessment: The evidence.
        ruling: The advice that follows from evidence and beliefs.
        splits: The static splits that were valued, each arm number to weight.
        outlook: How long a lift takes to be seen.
    """

    assessment: Assessment
    ruling: Ruling
    splits: tuple[Mapping[int, float], ...]
    outlook: Outlook


@dataclass(frozen=True, kw_only=True)
class EvidenceInput:
    """The input of evidence.

    Attributes:
        state: The experiment, its epochs and facts, and the moment.
        declarations: Every declaration under which it has run.
        unit_facts: Facts that count units, where evidence counts those; None where it counts decisions.
        withheld: Why evidence is withheld; None if it is not.
        repeats: How often units repeat, where decisions are counted.
    """

    state: ExperimentState
    declarations: Sequence[Experiment]
    unit_facts: Facts | None = None
    withheld: CannotSay | None = None
    repeats: RepeatEstimate | None = None

    @property
    def evidence_facts(self) -> Facts:
        """The facts that evidence counts."""
        return self.unit_facts or self.state.facts

    @cached_property
    def grid(self) -> FactGrid:
        """The facts that evidence counts, by epoch and arm."""
        return grid_of(self.state, self.unit_facts)


def evidence_input(
    state: ExperimentState, declarations: Sequence[Experiment], units: UnitFacts
) -> EvidenceInput:
    """Return the input of evidence: units where they are counted, otherwise decisions if few units return."""
    if state.experiment.analysis_unit is AnalysisUnit.UNIT:
        return EvidenceInput(state=state, declarations=declarations, unit_facts=units.facts)
    repeats = estimate_repeats(units.groups)
    withheld = CannotSay(Reason.REPEATED_UNITS) if repeats.is_too_much else None
    return EvidenceInput(state=state, declarations=declarations, withheld=withheld, repeats=repeats)


def summarise_evidence(
    record: ExperimentRecord,
    inputs: EvidenceInput,
    probability_best: Mapping[int, float],
    champion_loss: float | None,
    *,
    splits: Sequence[Mapping[int, float]],
    lift: float | None,
) -> EvidenceSummary:
    """Return the evidence on a started experiment, its ruling and the outlook.

    Args:
        record: The experiment.
        inputs: The input of evidence.
        probability_best: Belief: arm number to P(best), of arms in service.
        champion_loss: Belief: the champion's expected loss relative to its mean; None if it has none.
        splits: Static splits to value, each arm number to weight.
        lift: The relative lift of the outlook; None for a tenth in the better direction.
    """
    state = inputs.state
    floors = smallest_floors(inputs.declarations, state.arm_numbers)
    assessment = assess(state, floors, grid=inputs.grid, withheld=inputs.withheld, splits=splits)
    beliefs = Beliefs(probability_best=probability_best, champion_loss=champion_loss, harms=_harms(inputs))
    started_at = record.started_at or state.now
    return EvidenceSummary(
        assessment=assessment,
        ruling=rule(assessment, beliefs, started_at, state.now),
        splits=tuple(splits),
        outlook=_look_out(record, inputs, floors, lift),
    )


def _harms(inputs: EvidenceInput) -> dict[tuple[str, int], Harm]:
    """Return the harmful events by guardrail and challenger, open epochs included."""
    state = inputs.state
    champion = state.arm_numbers[state.experiment.champion]
    harms = {}
    for metric in state.experiment.metrics:
        if not metric.is_harmful_event:
            continue
        numbered = (state.metric_numbers[metric.name], metric)
        table = open_table(inputs.grid, numbered)
        for arm in table.arms:
            if arm != champion:
                harms[metric.name, arm] = _harm(table, arm, champion)
    return harms


def _harm(table: EvidenceTable, arm: int, champion: int) -> Harm:
    """Compare events over the epochs in which both arms had a share, weighted by the inverse share."""
    columns = [table.column(arm), table.column(champion)]
    shares, sums = table.shares[:, columns], table.sums[:, columns]
    is_shared = np.all(shares > 0, axis=1)
    weighted = (sums[is_shared] / shares[is_shared]).sum(axis=0)
    return Harm(
        events=int(sums[:, 0].sum()), ratio=float(weighted[0] / weighted[1]) if weighted[1] > 0 else inf
    )


def _look_out(
    record: ExperimentRecord, inputs: EvidenceInput, floors: Mapping[int, float], requested_lift: float | None
) -> Outlook:
    state = inputs.state
    reward = state.experiment.metric(state.experiment.reward_metric)
    lift = requested_lift or (_DEFAULT_LIFT if reward.direction is Direction.MAXIMIZE else -_DEFAULT_LIFT)
    days = (state.now - (record.started_at or state.now)) / _DAY
    counts = inputs.evidence_facts.count_decisions()
    n_decisions = sum(count for (_, basis), count in counts.items() if basis is Basis.POLICY)
    per_day = n_decisions / days if days > 0 else 0.0
    plan = _plan(state, floors, lift, per_day)
    if inputs.withheld is not None:
        plan = inputs.withheld
    is_yes_no = reward.is_binary
    forecast = plan if isinstance(plan, CannotSay) else forecast_report(plan, is_yes_no=is_yes_no)
    return Outlook(lift=lift, decisions_per_day=per_day, forecast=forecast)


def _plan(
    state: ExperimentState, floors: Mapping[int, float], lift: float, per_day: float
) -> Plan | CannotSay:
    """Return the plan for the challenger with the smallest floor, on the champion's mean so far."""
    experiment = state.experiment
    reward = experiment.metric(experiment.reward_metric)
    champion = state.arm_numbers[experiment.champion]
    challengers = [
        state.arm_numbers[arm.id]
        for arm in experiment.arms
        if not arm.is_taken_out and arm.id != experiment.champion
    ]
    sums = state.observations(reward, [champion])[champion].sums
    if reward.window is None:
        return CannotSay(Reason.NO_WINDOW)
    if not challengers or sums.n == 0 or per_day == 0:
        return CannotSay(Reason.NO_EFFECT_PLANNED)
    design = Design(alpha=ALPHA, floors=dict(floors))
    challenger = min(challengers, key=design.floor)
    scale = ValueScale.of(reward)
    base = (sums.mean - scale.minimum) / scale.width
    return Plan(
        base_mean=base,
        lift=lift * sums.mean / (scale.width * base) if base > 0 else lift,
        decisions_per_day=per_day,
        champion_floor=floors.get(champion, 0.0),
        challenger_floor=floors.get(challenger, 0.0),
        rest=max(1 - fsum(floors.get(arm, 0.0) for arm in (champion, *challengers)), 0.0),
        is_less_better=reward.direction is Direction.MINIMIZE,
        variance=None if reward.is_binary else sums.centred_squares / sums.n / scale.width**2,
        n_challengers=len(challengers),
        design=Design(alpha=ALPHA, floors={0: design.floor(champion), 1: design.floor(challenger)}),
    )
