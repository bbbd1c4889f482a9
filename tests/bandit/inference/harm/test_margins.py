"""Margins: harm beyond one is found, none within it is, in every direction and for every kind of metric.

Bounds on counts of simulated runs are one-sided binomial at a false-alarm rate of 1e-6: mean plus or minus
4.9 standard deviations.
"""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.inference.data.table import EvidenceTable, FloatArray, ValueScale
from bandit.inference.harm.margins import (
    Difference,
    Edge,
    MarginEvidence,
    Ratio,
    closed_process,
    early_process,
    edge_of,
    margin_evidence,
)
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.results import EProcess, Interval, RowwiseProcess
from bandit.metric import AbsoluteMargin, Direction, Margin, Metric, MetricKind, RelativeMargin
from tests.bandit.inference.tables import draw_table, make_table

DESIGN = Design()
FEWER = ValueScale(direction=Direction.MINIMIZE)
LEVEL = 20.0
N_RUNS = 400


def most(probability: float) -> float:
    """Return the largest count of runs that this probability yields, exceeded with probability 1e-6."""
    return N_RUNS * probability + 4.9 * sqrt(N_RUNS * probability * (1 - probability))


def process_of(found: RowwiseProcess | EProcess | CannotSay) -> EProcess:
    """Return the process, which must not be missing."""
    assert not isinstance(found, CannotSay)
    return found.process() if isinstance(found, RowwiseProcess) else found


def ramp(rng: np.random.Generator, ratio: float, *, base: float = 0.02) -> EvidenceTable:
    """Return 28 days of 10,000 decisions, six rows a day: a ramp to half the traffic, then shares that react.

    Errors have a daily rhythm of 50 %. The later shares follow the challenger's own luck of the row before.
    """
    steps = np.repeat([0.01, 0.05, 0.1, 0.25, 0.5], 12)
    shares, n, sums = np.empty((168, 2)), np.empty((168, 2)), np.empty((168, 2))
    for row in range(168):
        if row < len(steps):
            share = steps[row]
        else:
            rates = (sums[:row].sum(axis=0) + 1) / (n[:row].sum(axis=0) + 1)
            share = 0.8 if rates[1] < rates[0] else 0.2
        shares[row] = 1 - share, share
        rate = base * (1 + 0.5 * np.sin(2 * np.pi * row / 6))
        n[row] = rng.multinomial(10_000 // 6, shares[row])
        sums[row] = rng.binomial(n[row].astype(int), [rate, rate * ratio])
    return make_table(shares, n, sums, scale=FEWER)


def count_fired(ratio: float, tested: float, *, rows: int = 168, seed: int = 1) -> int:
    """Return in how many runs harm is found at some look over these rows."""
    rng, fired = np.random.default_rng(seed), 0
    for _ in range(N_RUNS):
        found = process_of(harm_process(ramp(rng, ratio), 1, 0, tested))
        fired += bool(np.max(found.log_values[:rows]) >= log(LEVEL))
    return fired


def test_harm_of_just_the_margin_is_rarely_found() -> None:
    """At the margin of 10 %, a look after every row of a ramp and a bandit fires in at most 1/20 of runs."""
    assert count_fired(1.1, 1.1) <= most(1 / LEVEL)


def test_without_a_margin_the_same_harm_is_found_far_more_often() -> None:
    """The check above can fail: on the same runs the test of any harm at all fires."""
    assert count_fired(1.1, 1.0) > 2 * most(1 / LEVEL)


@pytest.mark.parametrize(("ratio", "days"), [(1.5, 9), (2.0, 5)])
def test_harm_beyond_the_margin_is_found_soon(ratio: float, days: int) -> None:
    """With a margin of 10 %, half as many errors again fire in nine days of a ramp, twice as many in five.

    If nine in ten runs fire, fewer than 300 of 400 do with a probability below 1e-6.
    """
    assert count_fired(ratio, 1.1, rows=6 * days) >= 300


@pytest.mark.parametrize(("n_events", "least", "most_value"), [(4, 1, 20), (5, 20, 120), (7, 120, 1000)])
def test_a_champion_without_events_is_no_special_case(n_events: int, least: float, most_value: float) -> None:
    """At a share of 5 %, five events of the challenger alone reach 20, and seven 120."""
    table = make_table([[0.95, 0.05]], [[1900, 100]], [[0, n_events]], scale=FEWER)
    assert least < exp(process_of(harm_process(table, 1, 0)).log_value) < most_value


@given(
    share=st.floats(1e-3, 0.999),
    ratio=st.floats(0.2, 5),
    fraction=st.floats(0, 1),
    is_worse=st.booleans(),
)
def test_an_events_factor_has_expectation_1_at_the_margin_and_less_within_it(
    share: float,
    ratio: float,
    fraction: float,
    is_worse: bool,  # noqa: FBT001 - a case
) -> None:
    """Whatever the shares, E of one event is a fair bet at the edge, and an unfair one on its other side."""
    values = []
    for events in ([[1, 0]], [[0, 1]]):
        table = make_table([[1 - share, share]], [[1, 1]], events, scale=FEWER)
        values.append(exp(process_of(early_process(table, 1, 0, Ratio(ratio), is_worse=is_worse)).log_value))

    def expected(true: float) -> float:
        chance = share * true / (1 - share + share * true)
        return (1 - chance) * values[0] + chance * values[1]

    assert expected(ratio) == pytest.approx(1)
    inside = ratio * fraction if is_worse else ratio / max(fraction, 1e-3)
    assert expected(inside) <= 1 + 1e-9


KINDS = {
    "events": Metric(name="x"),
    "amount": Metric(name="x", kind=MetricKind.REAL, maximum=10.0),
    "amount from 5": Metric(name="x", kind=MetricKind.REAL, minimum=5.0, maximum=45.0),
    "count": Metric(name="x", kind=MetricKind.COUNT, maximum=10.0),
}
MARGINS: list[Margin] = [RelativeMargin(0.2), AbsoluteMargin(0.06)]


def flat(metric: Metric, champion: float, challenger: float, n_rows: int = 40) -> EvidenceTable:
    """Return rows in which half of the decisions have each arm, and their means are these values."""
    scale = ValueScale.of(metric)
    means = (np.array([champion, challenger]) - scale.minimum) / scale.width
    n = np.full((n_rows, 2), 1000.0)
    return make_table(np.full((n_rows, 2), 0.5), n, n * means, squares=n * means**1.5, scale=scale)


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("margin", MARGINS, ids=["relative", "absolute"])
@pytest.mark.parametrize("kind", KINDS)
def test_worse_is_worse_in_the_metrics_own_direction(kind: str, margin: Margin, direction: Direction) -> None:
    """Far beyond the margin it is found and its opposite is not; equal arms, and better ones, are within."""
    metric = replace(KINDS[kind], direction=direction, worse_by=margin)
    width = metric.maximum - metric.minimum
    base = metric.minimum + 0.4 * width
    allowed = base * 0.2
    if isinstance(margin, AbsoluteMargin):
        allowed = 0.06 * width
        metric = replace(metric, worse_by=AbsoluteMargin(allowed))
    sign = 1 if direction is Direction.MINIMIZE else -1
    for change, is_beyond in ((2.5 * allowed, True), (0.0, False), (-2 * allowed, False)):
        found = margin_evidence(metric, flat(metric, base, base + sign * change), 1, 0, DESIGN)
        beyond, within = process_of(found.beyond), process_of(found.within)
        assert (beyond.value >= LEVEL, within.value >= LEVEL) == (is_beyond, not is_beyond)
        refuted = within if is_beyond else beyond
        assert refuted.value < 1


@pytest.mark.parametrize("seed", range(60))
def test_the_margins_claim_and_the_interval_are_one_statement(seed: int) -> None:
    """A challenger is not worse by the margin just where the interval beside the claim ends before it.

    So it is for a difference of any metric, and for a ratio where the interval has one.
    """
    table = draw_table(seed)
    found = compare(table, 1, 0, DESIGN)
    if isinstance(found, CannotSay):
        return
    is_less_better = table.scale.direction is Direction.MINIMIZE
    cases: list[tuple[Edge, Interval | CannotSay, float]] = [
        (Difference(part * table.scale.width), found.interval, part * table.scale.width)
        for part in (-0.2, -0.05, 0.05, 0.2)
    ]
    if not isinstance(found.lift, CannotSay):
        cases += [(Ratio(1 + part), found.lift, part) for part in (-0.5, -0.1, 0.1, 1.0)]
    for edge, interval, place in cases:
        assert isinstance(interval, Interval)
        for is_worse in (True, False):
            log_value = process_of(closed_process(table, 1, 0, edge, DESIGN, is_worse=is_worse)).log_value
            is_above = is_worse == is_less_better
            outside = interval.lower > place if is_above else interval.upper < place
            if abs(log_value - DESIGN.log_level) > 0.1:
                assert (log_value >= DESIGN.log_level) == outside


@pytest.mark.parametrize("seed", range(20))
def test_without_a_margin_harm_is_what_the_comparison_calls_worse(seed: int) -> None:
    """At the edge of no difference, both directions are the processes of the comparison."""
    table = draw_table(seed)
    found = compare(table, 1, 0, DESIGN)
    edges: tuple[Edge, ...] = (Ratio(1.0), Difference(0.0))
    for edge in edges:
        for is_worse in (True, False):
            process = closed_process(table, 1, 0, edge, DESIGN, is_worse=is_worse)
            if isinstance(found, Comparison):
                expected = found.worse if is_worse else found.better
                assert process_of(process).log_values == pytest.approx(expected.log_values, abs=1e-9)
            else:
                assert process == found


@pytest.mark.parametrize("edge", [Ratio(1.2), Difference(0.03)])
@pytest.mark.parametrize("scale", [FEWER, ValueScale(is_binary=False)], ids=["events", "amount"])
def test_false_alarms_at_the_edge_keep_to_the_level(scale: ValueScale, edge: Edge) -> None:
    """At the edge itself, harm and no harm are each found at some look in at most 1/20 of runs of 40 rows."""
    rng, fired = np.random.default_rng(7), np.zeros(2)
    p_0 = 0.15
    p_k = p_0 * edge.value if isinstance(edge, Ratio) else p_0 + edge.value
    for _ in range(N_RUNS):
        table = drawn(rng, p_0, p_k, scale)
        for side, is_worse in enumerate((True, False)):
            process = process_of(closed_process(table, 1, 0, edge, DESIGN, is_worse=is_worse))
            fired[side] += np.max(process.log_values) >= log(LEVEL)
    assert fired.max() <= most(1 / LEVEL)


def drawn(rng: np.random.Generator, p_0: float, p_k: float, scale: ValueScale) -> EvidenceTable:
    """Return 40 rows of 250 decisions with shares that move, and yes/no outcomes at these rates."""
    part = rng.uniform(0.1, 0.9, size=40)
    shares = np.stack([1 - part, part], axis=1)
    n: FloatArray = rng.multinomial(250, shares).astype(float)
    sums = rng.binomial(n.astype(int), [p_0, p_k]).astype(float)
    return make_table(shares, n, sums, scale=scale)


def test_a_process_that_begins_anew_forgets_the_rows_before() -> None:
    """From any row on, its values are those of the later rows alone."""
    events = make_table(
        np.full((6, 2), 0.5), np.full((6, 2), 50.0), np.arange(12.0).reshape(6, 2), scale=FEWER
    )
    later = make_table(events.shares[2:], events.n[2:], events.sums[2:], scale=FEWER)
    whole, part = (early_process(table, 1, 0, Ratio(1.1), is_worse=True) for table in (events, later))
    assert isinstance(whole, RowwiseProcess)
    assert isinstance(part, RowwiseProcess)
    assert whole.log_values(2) == pytest.approx(part.log_values())
    assert whole.log_values(6).shape == (0,)
    amount = replace(events, scale=ValueScale(is_binary=False, direction=Direction.MINIMIZE))
    found = closed_process(amount, 1, 0, Ratio(1.1), DESIGN, is_worse=True)
    assert isinstance(found, RowwiseProcess)
    moved = found.log_e_value(np.cumsum(found.terms, axis=0)[2:] - np.cumsum(found.terms, axis=0)[1])
    assert found.log_values(2) == pytest.approx(moved)


def test_a_ratio_of_what_may_be_negative_has_no_test() -> None:
    """It has a reason instead; a difference has a test, and so has a table that is missing its reason."""
    metric = Metric(name="x", kind=MetricKind.REAL, minimum=-1.0, worse_by=RelativeMargin(0.1))
    table = flat(replace(metric, minimum=0.0), 0.5, 0.5)
    table = replace(table, scale=ValueScale.of(metric))
    assert margin_evidence(metric, table, 1, 0, DESIGN).beyond == CannotSay(Reason.NO_RATIO_SCALE)
    absolute = replace(metric, worse_by=AbsoluteMargin(0.1))
    assert isinstance(margin_evidence(absolute, table, 1, 0, DESIGN).within, RowwiseProcess)
    why = CannotSay(Reason.NO_CLOSED_EPOCH)
    assert margin_evidence(metric, why, 1, 0, DESIGN) == MarginEvidence(beyond=why, within=why)


def test_edges_lie_on_the_side_that_is_worse() -> None:
    """More errors, or fewer answers; a margin may be taken twice."""
    errors = Metric(name="error", direction=Direction.MINIMIZE, worse_by=RelativeMargin(0.1))
    answered = Metric(name="answered", worse_by=RelativeMargin(0.1))
    assert [edge_of(errors), edge_of(errors, 2)] == [Ratio(1.1), Ratio(1.2)]
    assert [edge_of(answered), edge_of(answered, 2)] == [Ratio(0.9), Ratio(0.8)]
    assert edge_of(replace(errors, worse_by=AbsoluteMargin(0.5)), 2) == Difference(1.0)
    assert edge_of(replace(answered, worse_by=None)) == Ratio(1.0)
