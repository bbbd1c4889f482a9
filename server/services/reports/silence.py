"""Silence: outcomes that have stopped coming in, whichever arm answered. It is not taken for failure."""

from datetime import datetime, timedelta

from bandit.decision_id import Basis
from bandit.facts import Tally
from bandit.launch.gates import LEAST_EXPECTED
from server.store.records import Heard, ReportFacts

POSTED = [Tally._fields.index(name) for name in ("n", "late_n")]
"""The columns of a tally that count posted outcomes, in time and late."""


def last_heard(known: ReportFacts, at: datetime) -> Heard | None:
    """Return when outcomes of the goal last came in; None if none ever did.

    Args:
        known: The store's data, with what the look before heard.
        at: The moment of this look.
    """
    n_decisions, n_outcomes = _counts(known)
    before = [look.heard for look in known.looks.values() if look.heard is not None]
    last = max(before, key=lambda heard: heard.n_outcomes, default=None)
    if last is None or n_outcomes > last.n_outcomes:
        return Heard(at=at, n_outcomes=n_outcomes, n_decisions=n_decisions) if n_outcomes else None
    return last


def silence_of(known: ReportFacts, at: datetime) -> timedelta | None:
    """Return for how long no outcome has come in, where some should have; None if some did.

    By the rate so far, chance would have left out all of them once in e^20 times, and longer than the goal's
    window has passed. A goal without a window never counts as silent: its outcomes may come whenever they do.
    """
    declared = known.found.record.experiment
    window = declared.metric(declared.reward_metric).window
    last = last_heard(known, at)
    if last is None or window is None or not last.n_decisions:
        return None
    n_since = _counts(known)[0] - last.n_decisions
    is_silent = n_since * last.n_outcomes / last.n_decisions >= LEAST_EXPECTED and at - last.at > window
    return at - last.at if is_silent else None


def _counts(known: ReportFacts) -> tuple[int, int]:
    """Return policy decisions so far, and the outcomes of the goal that were posted for them."""
    record, facts = known.found.record, known.found.facts
    columns = facts.decision_columns
    n_decisions = int(columns.counts[columns.cells.basis == Basis.POLICY].sum())
    outcomes = facts.outcome_columns.get(record.metric_numbers[record.experiment.reward_metric])
    if outcomes is None:
        return n_decisions, 0
    return n_decisions, int(outcomes.tallies[outcomes.cells.basis == Basis.POLICY][:, POSTED].sum())
