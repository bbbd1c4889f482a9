"""Silence: outcomes that have stopped coming in, whichever arm answered. It is not taken for failure."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from bandit.decision_id import Basis
from bandit.facts import Tally, ends_of
from bandit.launch.gates import LEAST_EXPECTED
from server.store.records import Heard, ReportFacts

POSTED: Final = [Tally._fields.index(name) for name in ("n", "late_n")]
"""The columns of a tally that count posted outcomes, in time and late."""


def last_heard(known: ReportFacts, at: datetime) -> Heard | None:
    """Return when outcomes of the goal last came in; None if none ever did.

    Args:
        known: The store's data, with what the look before heard.
        at: The moment of this look.
    """
    number, n_outcomes = _goal_number(known), _count_outcomes(known)
    looks = [look for look in known.looks.values() if look.heard is not None]
    last = max(looks, key=lambda look: look.at).heard if looks else None
    if last is not None and (last.metric, last.n_outcomes) == (number, n_outcomes):
        return last
    if not n_outcomes:
        return None
    n_decisions = _count_decisions(known, {epoch.number for epoch in known.found.epochs})
    return Heard(at=at, metric=number, n_outcomes=n_outcomes, n_decisions=n_decisions)


def silence_of(known: ReportFacts, at: datetime) -> timedelta | None:
    """Return for how long no outcome has come in, where some should have; None if some did.

    Of the decisions since then whose window has passed, 20 outcomes should have come by the rate so far: by
    chance all of them are missing once in e^20 times. A goal without a window never counts as silent: its
    outcomes may come whenever they do.
    """
    declared = known.found.record.experiment
    window = declared.metric(declared.reward_metric).window
    last = last_heard(known, at)
    if last is None or window is None or not last.n_decisions or at - last.at <= window:
        return None
    epochs = known.found.epochs
    over = {epoch.number for epoch, end in zip(epochs, ends_of(epochs), strict=False) if end <= at - window}
    n_due = _count_decisions(known, over) - last.n_decisions
    return at - last.at if n_due * last.n_outcomes / last.n_decisions >= LEAST_EXPECTED else None


def _goal_number(known: ReportFacts) -> int:
    record = known.found.record
    return record.metric_numbers[record.experiment.reward_metric]


def _count_outcomes(known: ReportFacts) -> int:
    """Return how many outcomes of the goal were posted for policy decisions."""
    outcomes = known.found.facts.outcome_columns.get(_goal_number(known))
    if outcomes is None:
        return 0
    return int(outcomes.tallies[outcomes.cells.basis == Basis.POLICY][:, POSTED].sum())


def _count_decisions(known: ReportFacts, epochs: Collection[int]) -> int:
    """Return the policy decisions of some epochs."""
    columns = known.found.facts.decision_columns
    cells = columns.cells
    is_counted = (cells.basis == Basis.POLICY) & np.isin(cells.epoch, list(epochs))
    return int(columns.counts[is_counted].sum())
