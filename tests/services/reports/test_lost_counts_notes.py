"""A report's notes on decisions whose counts were lost."""

from dataclasses import replace
from datetime import timedelta

from bandit.decision_id import Basis
from bandit.experiment import Experiment
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.facts.units import UnitFacts
from bandit.metric import Metric
from server.services.reports.build import make_report
from server.services.reports.values import ReportRequest
from server.store.records import ExperimentFacts, ExperimentRecord, ReportFacts, State
from tests.bandit.builders import START, declare, make_epoch

HOUR = timedelta(hours=1)


def notes_of(experiment: Experiment, facts: Facts, *, n_old_runs: int = 0) -> list[str]:
    """Return the notes on lost counts of a report an hour after the start."""
    record = replace(
        ExperimentRecord.draft(experiment, START), number=1, state=State.RUNNING, started_at=START
    )
    found = ExperimentFacts(record, (make_epoch(1, START),), facts)
    units = UnitFacts(facts=Facts(decisions={}, outcomes={}), n_decisions=0, groups={})
    known = ReportFacts(found=found, declarations=[experiment], units=units, n_old_runs=n_old_runs)
    report = make_report(known, ReportRequest(max_epochs=10), timedelta(), START + HOUR)
    return [note for note in report.notes if "killed" in note]


def facts_with(basis: Basis) -> Facts:
    """Return a hundred decisions, and outcomes of one basis: two in time and one late."""
    return Facts(
        decisions={DecisionKey(1, 1, 0, 0, Basis.POLICY): 100},
        outcomes={OutcomeKey(1, 1, 0, 0, basis, 0): Tally(2, 2, 2, 1, 1, 1)},
    )


def test_outcomes_that_are_left_out_are_counted() -> None:
    """The note gives the number of outcomes left out, late ones included, and no mean includes them."""
    (note,) = notes_of(declare(), facts_with(Basis.UNCOUNTED))
    assert note.startswith("3 outcomes are left out: ")
    assert notes_of(declare(), facts_with(Basis.POLICY)) == []


def test_the_bias_that_older_servers_can_make_is_bounded() -> None:
    """Each run may have lost a second of an hour; without a value for silence that makes no difference."""
    silent = declare(metrics=[Metric(name="click", window=HOUR, default_value=0.0)])
    facts = facts_with(Basis.POLICY)
    (note,) = notes_of(silent, facts, n_old_runs=36)
    assert note.startswith("36 runs of servers older than 0.3.0 took part")
    assert "about 0.01 of the decisions are missing" in note
    assert notes_of(silent, facts) == []
    plain = declare(metrics=[Metric(name="click")])
    assert notes_of(plain, facts, n_old_runs=36) == []
