"""Evidence tables: which decisions and outcomes count, when, and as what."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.decision_id import Basis
from bandit.facts import Epoch, Facts, Tally
from bandit.inference.data.table import EvidenceTable, evidence_table, exposure_table, open_evidence_table
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.response import Response, measure_response, require_alike
from bandit.metric import Metric, MetricKind
from tests.bandit.builders import (
    HOUR,
    MINUTE,
    NOTHING,
    START,
    binary_tally,
    decision_key,
    make_epoch,
    outcome_key,
)
from tests.bandit.inference.tables import make_table

LAG = timedelta(seconds=5)
ARMS = (0, 1)
CLICKS = Metric(name="clicks", window=MINUTE, default_value=0.0)
IGNORING = Metric(name="clicks", window=MINUTE)
SPEND = Metric(name="spend", kind=MetricKind.REAL, minimum=-2.0, maximum=6.0, window=MINUTE)


def three_epochs() -> list[Epoch]:
    """Return three hourly epochs; the second has a mean of metric 0, as the server stores it."""
    return [
        make_epoch(1, START, {0: 0.5, 1: 0.5}),
        make_epoch(2, START + HOUR, {0: 0.4, 1: 0.6}, means={0: {0: 0.25, 1: 0.5}}),
        make_epoch(3, START + 2 * HOUR, {0: 1.0}),
    ]


def tabulated(facts: Facts, metric: Metric = CLICKS, now: timedelta = 4 * HOUR) -> EvidenceTable:
    """Return the table some hours after the start."""
    table = evidence_table(facts, three_epochs(), (0, metric), ARMS, lag=LAG, now=START + now)
    assert isinstance(table, EvidenceTable)
    return table


def test_only_closed_epochs_count() -> None:
    """An epoch counts once the lag and the window have passed since the next one's start, and not earlier."""
    facts = Facts(decisions={decision_key(number, 0): 10 for number in (1, 2, 3)}, outcomes={})
    ends = HOUR + LAG + MINUTE
    assert tabulated(facts, now=ends).totals.tolist() == [10]
    early = evidence_table(
        facts, three_epochs(), (0, CLICKS), ARMS, lag=LAG, now=START + ends - timedelta(microseconds=1)
    )
    assert early == CannotSay(Reason.NO_CLOSED_EPOCH)
    assert tabulated(facts).totals.tolist() == [10, 10]


def test_only_policy_decisions_count() -> None:
    """Fallbacks, restricted and unconfirmed decisions are in no table."""
    foreign = [basis for basis in Basis if basis is not Basis.POLICY]
    facts = Facts(
        decisions={decision_key(1, 0, basis): 7 for basis in foreign},
        outcomes={outcome_key(1, 0, basis): binary_tally(7, 7) for basis in foreign},
    )
    assert tabulated(facts).totals.sum() == 0
    assert exposure_table(facts, three_epochs(), ARMS).counts.sum() == 0


def test_silence_counts_as_declared() -> None:
    """With a default value n counts decisions, without one answers; late answers are silence."""
    tally = Tally(n=4, total=3, squares=3, late_n=5, late_total=5, late_squares=5)
    facts = Facts(decisions={decision_key(1, 0): 20}, outcomes={outcome_key(1, 0): tally})
    silent, ignoring = tabulated(facts), tabulated(facts, IGNORING)
    assert (silent.n[0, 0], silent.sums[0, 0], silent.squares[0, 0]) == (20, 3, 3)
    assert (ignoring.n[0, 0], ignoring.sums[0, 0]) == (4, 3)


def test_lost_counts_are_no_silence() -> None:
    """With more answers than decisions, as after a crash, every answer counts and nothing is negative."""
    facts = Facts(decisions={decision_key(1, 0): 2}, outcomes={outcome_key(1, 0): binary_tally(4, 3)})
    assert (tabulated(facts).n[0, 0], tabulated(facts).sums[0, 0]) == (4, 3)


@settings(max_examples=30)
@given(st.lists(st.floats(-2, 6), min_size=1, max_size=20))
def test_values_are_positions_in_the_declared_range(values: list[float]) -> None:
    """Sums and squares are those of (value - minimum) / (maximum - minimum), to within a quantum."""
    quanta = [SPEND.quantise(value) for value in values]
    tally = Tally(n=len(quanta), total=sum(quanta), squares=sum(q * q for q in quanta))
    table = tabulated(Facts(decisions={}, outcomes={outcome_key(1, 1): tally}), SPEND)
    positions = (np.array([SPEND.to_value(q) for q in quanta]) + 2) / 8
    assert table.sums[0, 1] == pytest.approx(positions.sum(), rel=1e-9, abs=1e-12)
    assert table.squares[0, 1] == pytest.approx((positions**2).sum(), rel=1e-9, abs=1e-12)


def test_stored_means_are_no_part_of_a_table() -> None:
    """A table with the means that epochs store is that without: centres are folded from its rows."""
    bare = [replace(epoch, means={}) for epoch in three_epochs()]
    facts = Facts(decisions={decision_key(2, 0): 5}, outcomes={outcome_key(2, 0): binary_tally(3, 1)})
    found = evidence_table(facts, bare, (0, CLICKS), ARMS, lag=LAG, now=START + 4 * HOUR)
    assert isinstance(found, EvidenceTable)
    for field in ("shares", "n", "sums", "squares"):
        assert getattr(found, field).tolist() == getattr(tabulated(facts), field).tolist()


def test_open_epochs_are_tabled_for_harm() -> None:
    """The open table has every epoch with its outcomes so far."""
    facts = Facts(decisions={}, outcomes={outcome_key(3, 0): binary_tally(2, 2)})
    table = open_evidence_table(facts, three_epochs(), (0, CLICKS), ARMS)
    assert table.sums[:, 0].tolist() == [0, 0, 2]


def test_tables_of_merged_facts_are_sums() -> None:
    """The table of two replicas' merged facts is the sum of their tables."""
    one = Facts(decisions={decision_key(1, 0): 5}, outcomes={outcome_key(1, 0): binary_tally(3, 1)})
    two = Facts(decisions={decision_key(1, 0): 8}, outcomes={outcome_key(1, 0): binary_tally(6, 2)})
    both = Facts(decisions={decision_key(1, 0): 13}, outcomes={outcome_key(1, 0): binary_tally(9, 3)})
    for field in ("n", "sums", "squares"):
        parts = getattr(tabulated(one), field) + getattr(tabulated(two), field)
        assert getattr(tabulated(both), field).tolist() == parts.tolist()


def test_a_metric_without_a_window_is_no_evidence() -> None:
    """A metric without a window has no table: a missing outcome never counts as silence."""
    found = evidence_table(
        NOTHING, three_epochs(), (0, Metric(name="x")), ARMS, lag=LAG, now=START + 9 * HOUR
    )
    assert found == CannotSay(Reason.NO_WINDOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [("shares", 1.5), ("shares", -0.1), ("n", float("nan")), ("sums", 11.0), ("squares", 5.0)],
)
def test_impossible_tables_are_refused(field: str, value: float) -> None:
    """Numbers that no outcomes in [0, 1] can have are refused."""
    given = {"shares": 0.5, "n": 10.0, "sums": 4.0, "squares": 4.0} | {field: value}
    cells = {name: np.array([[number, number]]) for name, number in given.items()}
    with pytest.raises(ValueError, match=r"must|outcomes"):
        make_table(cells["shares"], cells["n"], cells["sums"], squares=cells["squares"])


def responding(n_first: int, n_second: int) -> Facts:
    """Return two arms with 10,000 decisions each and these numbers of answers."""
    return Facts(
        decisions={decision_key(1, arm): 10_000 for arm in ARMS},
        outcomes={
            outcome_key(1, arm): binary_tally(n, n // 2)
            for arm, n in zip(ARMS, (n_first, n_second), strict=True)
        },
    )


@pytest.mark.parametrize(("answers", "is_alike"), [((5_000, 5_050), True), ((4_000, 6_000), False)])
def test_unequal_response_is_reported(answers: tuple[int, int], is_alike: bool) -> None:  # noqa: FBT001 - a case
    """Ratios are answers over decisions; if they differ beyond chance, the metric has no evidence."""
    facts = responding(*answers)
    found = measure_response(facts, three_epochs(), (0, IGNORING), ARMS, lag=LAG, now=START + 4 * HOUR)
    assert isinstance(found, Response)
    assert [found.arms[arm].ratio for arm in ARMS] == [n / 10_000 for n in answers]
    kept = require_alike(tabulated(facts, IGNORING))
    assert isinstance(kept, EvidenceTable) if is_alike else kept == CannotSay(Reason.UNEQUAL_RESPONSE)
