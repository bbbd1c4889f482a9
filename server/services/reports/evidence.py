"""The report's evidence: the assessment, its ruling, and the outlook."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import inf

import numpy as np

from bandit.allocation import ExperimentState
from bandit.experiment import AnalysisUnit, Experiment
from bandit.facts import Facts
from bandit.facts.grid import FactGrid
from bandit.facts.units import RepeatEstimate, UnitFacts, estimate_repeats
from bandit.inference.data.floors import smallest_floors
from bandit.inference.data.table import EvidenceTable, FloatArray, open_table
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.verdict.advice import Beliefs, Harm, Rules, Ruling, rule
from bandit.inference.verdict.assessment import Assessment, assess, grid_of
from bandit.inference.verdict.families import family_of
from bandit.launch.plan import LaunchPlan
from server.services.reports.outlook import Outlook, look_out
from server.store.records import ExperimentRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSummary:
    """Evidence, the ruling on it, and the outlook.

    Attributes:
        assessment: The evidence.
        ruling: The advice that follows from evidence and beliefs.
        unit: What evidence counts.
        started_at: When the experiment first ran.
        rules: The constants of the advice.
        splits: The static splits that were valued, each arm number to weight.
        outlook: How long a lift takes to be seen.
    """

    assessment: Assessment
    ruling: Ruling
    unit: AnalysisUnit
    started_at: datetime
    rules: Rules
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
    beliefs = Beliefs(probability_best=probability_best, champion_loss=champion_loss, harms=harms_of(inputs))
    started_at = record.started_at or state.now
    rules = rules_of(record.experiment.launch)
    return EvidenceSummary(
        assessment=assessment,
        ruling=rule(assessment, beliefs, started_at, state.now, rules),
        unit=state.experiment.analysis_unit,
        started_at=started_at,
        rules=rules,
        splits=tuple(splits),
        outlook=look_out(
            state,
            inputs.evidence_facts,
            floors,
            started_at=started_at,
            grid=inputs.grid,
            withheld=inputs.withheld,
            lift=lift,
        ),
    )


def harms_of(inputs: EvidenceInput) -> dict[tuple[str, int], Harm]:
    """Return the harmful events by guardrail and challenger, open epochs included.

    As in evidence, they count from the epoch with which the challenger's comparison with the champion began:
    in a launch that is restarted, what the arm did before is not held against it.
    """
    state = inputs.state
    champion = state.arm_numbers[state.experiment.champion]
    harms = {}
    for metric in state.experiment.metrics:
        if not (metric.is_guardrail and metric.is_harmful_event):
            continue
        numbered = (state.metric_numbers[metric.name], metric)
        table = open_table(inputs.grid, numbered)
        challengers = [arm for arm in table.arms if arm != champion]
        for arm in challengers:
            first_row = family_of(state, inputs.grid, arm, challengers).first_row
            decided = inputs.grid.decided[first_row:].sum(axis=0)
            harms[metric.name, arm] = _harm(table.since(first_row, arm), arm, champion, first_row, decided)
    return harms


def _harm(table: EvidenceTable, arm: int, champion: int, first_row: int, decided: FloatArray) -> Harm:
    """Compare events over the epochs in which both arms had a share, weighted by the inverse share."""
    columns = [table.column(arm), table.column(champion)]
    shares, sums = table.shares[:, columns], table.sums[:, columns]
    is_shared = np.all(shares > 0, axis=1)
    weighted = (sums[is_shared] / shares[is_shared]).sum(axis=0)
    return Harm(
        events=int(sums[:, 0].sum()),
        ratio=float(weighted[0] / weighted[1]) if weighted[1] > 0 else inf,
        decisions=int(decided[columns[0]]),
        champion_events=int(sums[first_row:, 1].sum()),
        champion_decisions=int(decided[columns[1]]),
    )


def rules_of(plan: LaunchPlan | None) -> Rules:
    """Return the constants of the advice: in a launch, its own cycle and number of cycles."""
    return Rules() if plan is None else Rules(cycle=plan.cycle, least_cycles=plan.minimum_cycles)
