"""How a verdict words findings that are out of date, or not settled yet."""

import doctest
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module
from pkgutil import walk_packages

import pytest

from bandit.metric import Metric, RelativeMargin
from server.services import reports
from tests.bandit.builders import START
from tests.bandit.inference.experiment_states import CLICK, ERROR, STARTED_AT, Stretch, even, stand
from tests.support.reports import report_on, require_sane

SINCE = START - STARTED_AT


def sentences(
    stretches: Sequence[Stretch],
    about: str,
    now: datetime | None = None,
    metrics: tuple[Metric, ...] = (CLICK, ERROR),
) -> list[str]:
    """Return the sentences of evidence on a metric, from a report that is sane."""
    state = stand(stretches, metrics=metrics)
    epochs = [replace(epoch, started_at=epoch.started_at + SINCE) for epoch in state.epochs]
    report = report_on(state.experiment, epochs, state.facts, now=(now or state.now) + SINCE)
    require_sane(report)
    return [each for each in report.verdict.evidence if each.startswith(f"{about}: ")]


def headline_of(
    stretches: Sequence[Stretch],
    metrics: tuple[Metric, ...] = (CLICK, ERROR),
    n_arms: int = 2,
) -> str:
    """Return the headline of a report on epochs of a day each."""
    state = stand(stretches, metrics=metrics, length=timedelta(days=1), n_arms=n_arms)
    epochs = [replace(epoch, started_at=epoch.started_at + SINCE) for epoch in state.epochs]
    return report_on(state.experiment, epochs, state.facts, now=state.now + SINCE).verdict.headline


def said(stretches: Sequence[Stretch], about: str, now: datetime | None = None) -> str:
    """Return the one sentence about the challenger."""
    (sentence,) = sentences(stretches, about, now)
    return sentence


def test_what_was_better_once_is_worded_in_the_past() -> None:
    """A novelty that wore off reads `was better` and `is worse`, never both in the present."""
    novelty = even(*[((500, 50, 0), (500, 100, 0))] * 8, *[((500, 100, 0), (500, 25, 0))] * 16)
    sentence = said(novelty, "click")
    assert sentence.startswith("click: first is worse (p ")
    assert " than champion, though at an earlier look it was established as better; " in sentence


def test_what_still_holds_is_worded_in_the_present() -> None:
    """A plain difference is worded in the present."""
    sentence = said(even(*[((500, 50, 0), (500, 100, 0))] * 8), "click")
    assert sentence.startswith("click: first is better (p ")
    assert "earlier" not in sentence
    assert "; 0.2000 against 0.1000 a decision, difference +0.1000 (" in sentence
    assert ", relative +100 % (" in sentence


def test_harm_in_open_epochs_says_what_else_would_look_the_same() -> None:
    """Harm seen in open epochs names its other explanations until closed epochs alone show it."""
    harmful = even(*[((500, 0, 5), (500, 0, 50))] * 4)
    doubt = "so far in open epochs: events that are only reported sooner look the same"
    (early,) = sentences(harmful, "error", STARTED_AT + timedelta(minutes=1))
    assert early.startswith("error: first does harm (p ")
    assert doubt in early
    worse, harm = sentences(harmful, "error")
    assert worse.startswith("error: first is worse (p ")
    assert harm.startswith("error: first does harm (p ")
    assert doubt not in harm


MARGIN = replace(ERROR, worse_by=RelativeMargin(0.5))
SIGNAL = replace(ERROR, is_guardrail=False, is_signal=True)


def test_a_margin_is_named_wherever_it_decides() -> None:
    """Harm, its absence and what is open are each worded with the margin, and so is the headline."""
    said_of = {
        n: sentences(even(*[((2000, 0, 100), (2000, 0, n))] * 10), "error", metrics=(CLICK, MARGIN))[1]
        for n in (100, 150, 250)
    }
    assert said_of[100].startswith("error: first is not worse than champion by more than 50 % (p ")
    assert ", first on 2026-" in said_of[100]
    assert said_of[150].startswith("error: whether first is worse than champion by more than 50 % is not ")
    assert said_of[250].startswith("error: first does harm: it is worse than champion by more than 50 % (p ")
    harmful = even(*[((500, 50, 10), (500, 50, 50))] * 15)
    assert headline_of(harmful) == "Take first out: it does harm (error)."
    assert headline_of(harmful, metrics=(CLICK, MARGIN)) == (
        "Take first out: it does harm (error is worse by more than 50 %)."
    )


def test_a_signal_says_since_when_it_is_on_and_what_changes_it() -> None:
    """Off, on and off again are told apart, with the e-value now and the one at which it changes."""
    alike, bad = ((2000, 0, 100), (2000, 0, 100)), ((2000, 0, 100), (2000, 0, 200))
    metrics = (CLICK, SIGNAL)
    _, never = sentences(even(*[alike] * 4), "error", metrics=metrics)
    assert never.startswith("error: the signal is off for first (e-value ")
    assert never.endswith(", on from 20).")
    _, held = sentences(even(*[alike] * 2, *[bad] * 2), "error", metrics=metrics)
    assert held.startswith("error: the signal is on for first since epoch 3, begun 2026-")
    assert held.endswith("off from 5).")
    assert ": hold the arm where it is (e-value " in held
    _, again = sentences(even(*[alike] * 2, *[bad] * 2, *[alike] * 12), "error", metrics=metrics)
    assert again.startswith("error: the signal is off for first again since epoch ")
    assert again.endswith(", on from 40).")


def test_a_signal_changes_no_advice() -> None:
    """Five times the errors are a fuse and harm on a guardrail; on a signal they only hold the arm."""
    harmful = even(*[((500, 50, 10), (500, 50, 50))] * 3)
    assert headline_of(harmful).startswith("Take first out")
    assert headline_of(harmful, metrics=(CLICK, SIGNAL)).startswith("Wait: no challenger is established")


def test_ignored_silence_is_stated_where_evidence_rests_on_it() -> None:
    """The sentence is there for answered decisions only, not if every decision counts or without a claim."""
    half_answered = even(*[((500, 50, 0), (500, 50, 0))] * 8)
    ignoring = (replace(CLICK, default_value=None), ERROR)
    doubt = "click: evidence is about answered decisions only"
    assert any(doubt in each for each in sentences(half_answered, "click", metrics=ignoring))
    assert not any(doubt in each for each in sentences(half_answered, "click"))
    at_once = STARTED_AT + timedelta(minutes=1)
    assert not any(doubt in each for each in sentences(half_answered, "click", at_once, ignoring))


def test_a_headline_never_denies_what_is_established() -> None:
    """The headline fits an arm better on all days, at week ends, at no week's end, once, or not the best."""
    alike, better, worse = (((500, 50, 0), (500, clicks, 0)) for clicks in (50, 100, 20))
    assert headline_of(even(*[better] * 15)) == (
        "Promote first: it is better than champion, and no guardrail speaks against it."
    )
    assert headline_of(even(*[better] * 15), metrics=(CLICK,)) == (
        "Promote first: it is better than champion, and there is no guardrail to speak against it."
    )
    soon = "; nothing is promoted before 2 whole weeks, on 2026-03-15 12:00 UTC."
    assert headline_of(even(*[better] * 4)) == f"Wait: first is better than champion{soon}"
    assert headline_of(even(*[alike] * 4)) == (
        f"Wait: no challenger is established as better, and no guardrail has fired{soon}"
    )
    assert headline_of(even(*[alike] * 15)) == (
        "Wait: no challenger is established as better, and no guardrail has fired."
    )
    assert headline_of(even(*[better] * 8, *[worse] * 14)) == (
        "Wait: first was better than champion at an earlier look, and no longer is over all decisions so far."
    )
    assert headline_of(even(*[((500, 50, 0), (500, 100, 0), (500, 100, 0))] * 15), n_arms=3) == (
        "Wait: first is better than champion, and is not believed to be the best arm."
    )
    between_weeks = even(*[alike] * 14, *[better] * 6)
    assert headline_of(between_weeks) == (
        "Wait: first is better than champion, but has not shown it where a whole week ends."
    )


def test_error_rates_are_those_of_each_metric_by_itself() -> None:
    """Two metrics are two families, and the report gives their joint rate; one needs no such sentence."""
    (sentence,) = sentences(even(*[((500, 50, 0), (500, 50, 0))] * 8), "Error rates")
    together = "so at most 0.1 for a false finding on any of the 2"
    assert sentence == f"Error rates: at most 0.05 for each metric by itself, {together}."
    assert not sentences(even(*[((500, 50), (500, 50))] * 8), "Error rates", metrics=(CLICK,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["server.wording", *(each.name for each in walk_packages(reports.__path__, f"{reports.__name__}."))],
)
def test_the_examples_in_docstrings_hold(name: str) -> None:
    """Every docstring example holds."""
    assert doctest.testmod(import_module(name)).failed == 0
