"""Roles and margins in whole assessments: the test behind a claim, its family, and states of signals."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bandit.inference.harm.signals import SignalState
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.verdict.assessment import assess
from bandit.inference.verdict.claims import ChallengerEvidence, Claim, TestKind
from bandit.metric import AbsoluteMargin, Direction, Margin, Metric, MetricKind, RelativeMargin
from tests.bandit.inference.experiment_states import CLICK, ERROR, FLOORS, HOUR, STARTED_AT, at, even, stand

CLEAR = even(*[((500, 50, 5), (500, 100, 5))] * 8)
"""The challenger has twice the clicks."""

SPEND = Metric(
    name="spend", kind=MetricKind.COUNT, maximum=10.0, window=HOUR, default_value=0.0, is_guardrail=True
)


def claim_of(claim: Claim | CannotSay | None) -> Claim:
    """Return the claim, which must not be missing."""
    assert isinstance(claim, Claim)
    return claim


def compared(seen: ChallengerEvidence) -> Comparison:
    """Return the comparison, which must not be missing."""
    assert isinstance(seen.comparison, Comparison)
    return seen.comparison


WITHIN = replace(ERROR, worse_by=RelativeMargin(0.5))
TWENTY_PERCENT_MORE = even(*[((2000, 0, 100), (2000, 0, 120))] * 10)
TWICE = even(*[((2000, 0, 100), (2000, 0, 200))] * 10)


def test_harm_within_the_margin_is_none() -> None:
    """A fifth more errors is worse, and established as not worse by the margin of a half; twice is harm."""
    seen = assess(stand(TWENTY_PERCENT_MORE, metrics=(CLICK, WITHIN)), FLOORS).others["error"].challengers[1]
    assert claim_of(seen.worse).is_established
    assert not claim_of(seen.harm).is_established
    assert claim_of(seen.not_worse).is_established
    harmful = assess(stand(TWICE, metrics=(CLICK, WITHIN)), FLOORS).others["error"].challengers[1]
    assert (claim_of(harmful.harm).is_established, claim_of(harmful.harm).is_early) == (True, False)
    assert not claim_of(harmful.not_worse).is_established
    plain = assess(stand(TWENTY_PERCENT_MORE), FLOORS).others["error"].challengers[1]
    assert claim_of(plain.harm).is_established
    assert plain.not_worse is None


def test_a_margins_claims_are_of_the_same_families() -> None:
    """Harm shares the error rate of all guardrails; not being worse that of both directions."""
    metrics = (CLICK, WITHIN, replace(SPEND, name="other"))
    state = stand(even(*[((500, 50, 5, 9), (500, 60, 6, 9), (500, 60, 6, 9))] * 6), n_arms=3, metrics=metrics)  # type: ignore[arg-type]
    seen = assess(state, FLOORS).others["error"].challengers[1]
    harm, within = claim_of(seen.harm), claim_of(seen.not_worse)
    assert (harm.test, harm.n_tests, harm.rows) == (TestKind.ODDS, 4, ())
    assert (within.test, within.n_tests, within.rows) == (TestKind.CENTRED_ODDS, 4, compared(seen).rows)


def test_an_absolute_margin_of_events_is_judged_in_closed_epochs() -> None:
    """Events alone tell no difference, so harm waits for closed epochs, and nothing is early."""
    absolute = replace(ERROR, worse_by=AbsoluteMargin(0.02))
    state = stand(TWICE, metrics=(CLICK, absolute))
    harm = claim_of(assess(state, FLOORS).others["error"].challengers[1].harm)
    assert (harm.test, harm.n_tests, harm.is_early) == (TestKind.CENTRED_ODDS, 1, False)
    assert harm.is_established
    early = assess(at(state, STARTED_AT), FLOORS).others["error"].challengers[1]
    assert (early.harm, early.not_worse) == (CannotSay(Reason.NO_CLOSED_EPOCH),) * 2


@pytest.mark.parametrize("margin", [RelativeMargin(0.3), AbsoluteMargin(0.05)])
def test_a_guardrail_of_numbers_keeps_its_test_with_a_margin(margin: Margin) -> None:
    """Amounts are judged by bounded scores in both directions of the margin."""
    seen = assess(stand(CLEAR, metrics=(CLICK, replace(SPEND, worse_by=margin))), FLOORS)
    challenger = seen.others["spend"].challengers[1]
    for claim in (claim_of(challenger.harm), claim_of(challenger.not_worse)):
        assert (claim.test, claim.rows) == (TestKind.BOUNDED_SCORES, compared(challenger).rows)


def test_a_signal_has_a_state_and_no_claim_of_harm() -> None:
    """It looks at open epochs too, is told by challenger, and changes no other figure of the metric."""
    signal = replace(ERROR, is_guardrail=False, is_signal=True)
    early = at(stand(TWICE, metrics=(CLICK, signal)), STARTED_AT + timedelta(minutes=1))
    found = assess(early, FLOORS).others["error"]
    state = found.challengers[1].signal
    assert isinstance(state, SignalState)
    assert (state.is_held, state.n_pauses, found.challengers[1].harm) == (True, 1, None)
    assert state.since_row is not None
    assert found.row_epochs[state.since_row].number in range(1, 5)
    settled = assess(stand(TWICE, metrics=(CLICK, signal)), FLOORS).others["error"].challengers[1]
    plain = assess(stand(TWICE), FLOORS).others["error"].challengers[1]
    assert replace(settled, signal=None) == replace(plain, harm=None)
    assert plain.signal is None


def test_a_signal_of_numbers_waits_for_closed_epochs() -> None:
    """Its state is that of closed epochs, with the reason while there is none."""
    signal = replace(SPEND, is_guardrail=False, is_signal=True, direction=Direction.MINIMIZE)
    state = stand(even(*[((2000, 0, 0), (2000, 0, 2000))] * 10), metrics=(CLICK, signal))
    found = assess(state, FLOORS).others["spend"].challengers[1].signal
    assert isinstance(found, SignalState)
    assert found.is_held
    before = assess(at(state, STARTED_AT), FLOORS).others["spend"].challengers[1]
    assert before.signal == CannotSay(Reason.NO_CLOSED_EPOCH)


def test_withheld_evidence_holds_no_arm() -> None:
    """Neither a margin nor a signal is judged where evidence is withheld."""
    why = CannotSay(Reason.REPEATED_UNITS)
    signal = replace(WITHIN, is_guardrail=False, is_signal=True)
    for metric in (WITHIN, signal):
        found = assess(stand(TWICE, metrics=(CLICK, metric)), FLOORS, withheld=why).others["error"]
        assert found.challengers[1].not_worse == why
        assert (found.challengers[1].signal or why) == (found.challengers[1].harm or why) == why
