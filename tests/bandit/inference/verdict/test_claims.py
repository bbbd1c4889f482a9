"""Claims: status and p-value from the e-value now, and the row at which it was first established."""

from dataclasses import replace
from math import exp, inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.verdict.claims import ALPHA, Claim, TestKind, evidence_on
from bandit.metric import Metric, MetricKind
from tests.bandit.inference.experiment_states import CLICK, ERROR


def claim(*log_values: float, n_tests: int = 2, rows: tuple[int, ...] | None = None) -> Claim:
    """Return a claim with this path of ln E, over every third row unless others are given."""
    return Claim(
        test=TestKind.CENTRED_ODDS,
        process=EProcess(log_values),
        n_tests=n_tests,
        rows=tuple(range(0, 3 * len(log_values), 3)) if rows is None else rows,
    )


COMPARISON = Comparison(
    arm=1,
    champion=0,
    mean=0.2,
    champion_mean=0.1,
    standard_error=0.03,
    interval=Interval(-0.1, 0.3),
    lift=Interval(-0.5, inf),
    approximate=None,
    better=EProcess((0.0, 3.0)),
    worse=EProcess((0.0, -2.0)),
    rows=(2, 5),
    n_decisions=100,
    n_tested=60,
)


@settings(max_examples=200)
@given(st.lists(st.floats(-1400, 2000), max_size=6), st.integers(1, 40))
def test_a_p_value_of_alpha_is_a_finding(log_values: list[float], n_tests: int) -> None:
    """A claim is established just if its p-value is at most alpha; it is lapsed if it only was once."""
    made = claim(*log_values, n_tests=n_tests)
    now = log_values[-1] if log_values else 0.0
    if abs(now - made.log_level) > 1e-9:
        assert made.is_established == (made.p_value <= ALPHA) == (now >= made.log_level)
    assert 0 < made.p_value <= 1
    ever = [value >= made.log_level for value in log_values]
    assert made.is_lapsed == (any(ever) and not made.is_established)
    assert made.first_established == (3 * ever.index(True) if any(ever) else None)


def test_the_p_value_is_that_of_now() -> None:
    """An e-value that falls takes its p-value with it; the family multiplies it."""
    assert claim(log(5000), log(200), n_tests=4).p_value == pytest.approx(4 / 200)
    assert claim(log(5000), log(2), n_tests=4).p_value == 1.0
    assert claim(log(5000), log(2), n_tests=4).is_lapsed


def test_a_finding_is_dated_by_the_row_of_the_table() -> None:
    """The first row at which the level was reached is the date, whether or not it held in between."""
    made = claim(0.0, 4.0, 1.0, 5.0, rows=(4, 7, 8, 11))
    assert (made.first_established, made.is_established, made.is_lapsed) == (7, True, False)
    assert claim(0.0, 1.0, rows=(4, 7)).first_established is None
    assert claim().first_established is None


def test_a_claim_without_rows_has_no_date() -> None:
    """Harm over open epochs is looked at once, now: it is established, and nothing dates it."""
    made = claim(9.0, rows=())
    assert (made.is_established, made.first_established, made.is_lapsed) == (True, None, False)


def test_rows_must_match_the_process() -> None:
    """A claim whose rows are not those of its process is an error, and no wrong date."""
    with pytest.raises(ValueError, match="longer"):
        _ = claim(0.0, 1.0, rows=(4,)).first_established


def test_better_and_worse_share_alpha_over_challengers() -> None:
    """Three challengers in two directions are six claims; harm on two guardrails is another six."""
    seen = evidence_on(1, ERROR, COMPARISON, n_challengers=3, open_harm=EProcess((1.0, 5.0)), n_harms=6)
    assert [each.n_tests for each in seen.claims] == [6, 6]
    assert [each.process for each in seen.claims] == [COMPARISON.better, COMPARISON.worse]
    assert {each.rows for each in seen.claims} == {(2, 5)}
    harm = seen.harm
    assert isinstance(harm, Claim)
    assert (harm.n_tests, harm.test, harm.rows, harm.is_early) == (6, TestKind.ODDS, (), True)
    assert harm.process == EProcess((5.0,))
    assert harm.p_value == pytest.approx(6 * exp(-5.0))


@pytest.mark.parametrize(("log_e", "is_early"), [(log(120.1), False), (log(119.9), True)])
def test_harm_is_settled_once_closed_epochs_establish_worse(log_e: float, is_early: bool) -> None:  # noqa: FBT001 - a case
    """Harm is early until "worse" is established in closed epochs, at its own level."""
    comparison = replace(COMPARISON, worse=EProcess((0.0, log_e)))
    seen = evidence_on(1, ERROR, comparison, n_challengers=3, open_harm=EProcess((9.0,)), n_harms=3)
    assert isinstance(seen.harm, Claim)
    assert seen.harm.is_early == is_early


def test_only_guardrails_have_a_claim_of_harm() -> None:
    """A metric that is no guardrail has none; an amount's is that of worse; a reason is passed on."""
    amount = Metric(name="latency", kind=MetricKind.REAL, maximum=9.0, is_guardrail=True)
    assert evidence_on(1, CLICK, COMPARISON, n_challengers=1, open_harm=None, n_harms=1).harm is None
    harm = evidence_on(1, amount, COMPARISON, n_challengers=1, open_harm=None, n_harms=1).harm
    assert isinstance(harm, Claim)
    assert (harm.test, harm.process, harm.rows) == (TestKind.BOUNDED_SCORES, COMPARISON.worse, (2, 5))
    why = CannotSay(Reason.NO_EVENTS)
    assert evidence_on(1, ERROR, COMPARISON, n_challengers=1, open_harm=why, n_harms=1).harm == why
    none = evidence_on(1, ERROR, why, n_challengers=1, open_harm=EProcess((9.0,)), n_harms=1)
    assert (none.better, none.worse, none.claims) == (why, why, ())
