"""Silence counts alike everywhere: in posteriors, in evidence and in exports."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.decision_id import Basis
from bandit.facts import Facts, Tally
from bandit.facts.fold import Weighting, fold_facts
from bandit.inference.data.table import EvidenceTable, evidence_table
from bandit.metric import Metric, MetricKind
from bandit.posteriors.moments import OutcomeMoments
from server.services.exports.resolved_history import ResolvedHistory
from server.services.exports.rows import fact_rows
from server.services.exports.tables import FACTS
from server.store.records import ExperimentFacts, ExperimentRecord, State
from tests.bandit.builders import HOUR, MINUTE, START, decision_key, declare, make_epoch, outcome_key

EPOCHS = (make_epoch(1), make_epoch(2, START + HOUR))
NOW = START + 5 * HOUR
SPEND = Metric(name="spend", kind=MetricKind.REAL, minimum=-2.0, maximum=6.0, window=MINUTE)
METRICS = [
    Metric(name="click", window=MINUTE, default_value=0.0),
    Metric(name="error", window=MINUTE, default_value=1.0),
    Metric(name="items", kind=MetricKind.COUNT, maximum=40, window=MINUTE, default_value=3.0),
    replace(SPEND, default_value=0.1),
    replace(SPEND, default_value=6.0),
    SPEND,
]
FLOAT_ERROR = 1e-9


@pytest.mark.parametrize("metric", METRICS, ids=lambda each: f"{each.name} {each.default_value}")
@given(
    n_decisions=st.integers(0, 60),
    positions=st.lists(st.floats(0, 1), max_size=40),
    n_late=st.integers(0, 3),
)
def test_posteriors_evidence_and_exports_count_silence_alike(
    metric: Metric, n_decisions: int, positions: list[float], n_late: int
) -> None:
    """Outcomes in time count, and the default for every other decision, even if decision counts were lost."""
    width = metric.maximum - metric.minimum
    values = [metric.minimum + width * each for each in positions]
    posted = [metric.quantise(value if metric.kind is MetricKind.REAL else round(value)) for value in values]
    n_silent = max(n_decisions - len(posted), 0) if metric.default_value is not None else 0
    quanta = [*posted, *[metric.quantise(metric.default_value or 0.0)] * n_silent]
    n, total, squares = len(quanta), sum(quanta), sum(each**2 for each in quanta)
    late = Tally(late_n=n_late, late_total=n_late, late_squares=n_late)
    tally = late.plus(Tally(len(posted), sum(posted), sum(each**2 for each in posted)))
    facts = Facts(decisions={decision_key(1, 0): n_decisions}, outcomes={outcome_key(1, 0): tally})

    believed = fold_facts(facts, EPOCHS, (0, metric), [0], weighting=Weighting(), now=NOW)[0].sums
    assert believed == OutcomeMoments.from_integers(
        n, total, squares, quantum=metric.quantum, offset=metric.offset
    )

    table = evidence_table(facts, EPOCHS, (0, metric), [0], lag=0 * HOUR, now=NOW)
    assert isinstance(table, EvidenceTable)
    places = [(metric.to_value(each) - metric.minimum) / width for each in quanta]
    assert table.n[0, 0] == n
    assert table.sums[0, 0] == pytest.approx(sum(places), rel=FLOAT_ERROR, abs=FLOAT_ERROR)
    assert table.squares[0, 0] == pytest.approx(sum(x**2 for x in places), rel=FLOAT_ERROR, abs=FLOAT_ERROR)

    row = exported(facts, metric)
    assert row["resolved"] == n
    outcomes = [metric.to_value(each) for each in quanta]
    assert row["resolved_total"] == pytest.approx(sum(outcomes), rel=FLOAT_ERROR, abs=FLOAT_ERROR)
    expected = sum(x**2 for x in outcomes)
    assert row["resolved_squares"] == pytest.approx(expected, rel=FLOAT_ERROR, abs=FLOAT_ERROR)


def exported(facts: Facts, metric: Metric) -> dict[str, object]:
    """Return the row of the first arm's policy decisions in the first epoch, by heading."""
    draft = ExperimentRecord.draft(declare(metrics=[metric]), START)
    record = replace(draft, number=1, state=State.RUNNING, started_at=START)
    view = ResolvedHistory(ExperimentFacts(record, EPOCHS, facts), {0: metric}, 0 * HOUR, NOW)
    names = [column.name for column in FACTS]
    rows = [dict(zip(names, row, strict=True)) for row in fact_rows(view)]
    (row,) = [
        row
        for row in rows
        if (row["epoch"], row["arm"], row["basis"]) == (1, "champion", Basis.POLICY.name.lower())
    ]
    return dict(row)
