"""The conditional-odds e-process: how many of two arms' events should be the challenger's.

Only events (outcomes of 1) on the challenger or the champion count. In an epoch with shares pi_k and pi_0 let
``pi = pi_k / (pi_k + pi_0)``. If the rates have the ratio r, the next event is the challenger's with
probability ``p_r = pi r / (1 - pi + pi r)``, whatever the base rate is and however it changes: a common drift
cancels, and no floor is needed. So ``E_g = prod p_(r g)(arm) / p_r(arm)`` over events is a test martingale if
the ratio is r, and for g > 1 a supermartingale if it is at most r (p_r rises with r, and the likelihood ratio
with every event of the challenger). So is a weighted mean of E_g over a grid of g. The likelihood of the
event's arm is Cox's (1972) partial likelihood.

It needs to know of events only, and not of decisions without one. So it serves for harm in epochs that are
still open; closed epochs are compared by `bandit.inference.sequential.centred_odds`, which also knows the
rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bandit.inference.data.table import EvidenceTable, FloatArray
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.results import EProcess, RowwiseProcess
from bandit.metric import Direction


def _geometric(first: float, last: float, n: int) -> tuple[float, ...]:
    return tuple(float(ratio) for ratio in np.geomspace(first, last, n))


GUARDRAIL_GRID = _geometric(1.02, 3.0, 14)
"""Ratios mixed over in the search for harm, which may be large."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events of two arms by row, over the rows in which both have a share.

    Attributes:
        odds: Challenger's share over the champion's, shape (n_rows,); 1 where the row does not count.
        challenger: Events of the challenger, shape (n_rows,).
        champion: Events of the champion, shape (n_rows,).
    """

    odds: FloatArray
    challenger: FloatArray
    champion: FloatArray

    @property
    def n(self) -> int:
        """Number of events of both arms."""
        return int(self.challenger.sum() + self.champion.sum())


def harm_process(table: EvidenceTable, arm: int, champion: int, ratio: float = 1.0) -> EProcess | CannotSay:
    """Return evidence that a guardrail's rate is worse for the challenger; the table may have open epochs.

    Use open epochs for events that only do harm and arrive soon (errors): an arm whose events arrive faster
    than the champion's looks worse until the slower ones are in.

    Args:
        table: The evidence.
        arm: Number of the challenger.
        champion: Number of the champion.
        ratio: The rate over the champion's from which it is harm: above 1 where less is better, below 1 where
            more is. A champion without events is no special case.
    """
    is_more = table.scale.direction is Direction.MINIMIZE
    found = ratio_rows(table, arm, champion, ratio, is_more=is_more)
    return found if isinstance(found, CannotSay) else found.process()


def ratio_rows(
    table: EvidenceTable, arm: int, champion: int, ratio: float, *, is_more: bool
) -> RowwiseProcess | CannotSay:
    """Return evidence by row against "the ratio is at most `ratio`" if `is_more`, else against "at least"."""
    events = count_events(table, arm, champion)
    if isinstance(events, CannotSay):
        return events
    return ratio_process(events, GUARDRAIL_GRID if is_more else reciprocal(GUARDRAIL_GRID), ratio)


def count_events(table: EvidenceTable, arm: int, champion: int) -> Events | CannotSay:
    """Count the events of two arms by epoch."""
    if not table.scale.is_binary:
        return CannotSay(Reason.NOT_YES_NO)
    if len(table.shares) == 0:
        return CannotSay(Reason.NO_CLOSED_EPOCH)
    own, other = table.column(arm), table.column(champion)
    is_used = (table.shares[:, own] > _NO_SHARE) & (table.shares[:, other] > _NO_SHARE)
    if not np.any(is_used):
        return CannotSay(Reason.ARM_WITHOUT_SHARE)
    odds = np.divide(table.shares[:, own], table.shares[:, other], out=np.ones(len(is_used)), where=is_used)
    challenger = np.where(is_used, table.sums[:, own], 0.0)
    events = Events(odds=odds, challenger=challenger, champion=np.where(is_used, table.sums[:, other], 0.0))
    return events if events.n > 0 else CannotSay(Reason.NO_EVENTS)


def reciprocal(grid: Sequence[float]) -> tuple[float, ...]:
    """Return the reciprocal ratios."""
    return tuple(1 / ratio for ratio in grid)


def ratio_process(events: Events, grid: Sequence[float], ratio: float = 1.0) -> RowwiseProcess:
    """Return evidence against "the ratio is at most `ratio`"; with a grid below 1, against "at least"."""
    terms = _log_likelihoods(events, grid, ratio)
    return RowwiseProcess(rows=tuple(range(len(terms))), terms=terms, log_e_value=_log_mixture)


def _log_likelihoods(events: Events, grid: Sequence[float], ratio: float) -> FloatArray:
    """Return ln of each epoch's likelihood ratio, `ratio` * g against `ratio`; shape (n_epochs, n_grid)."""
    steps = np.asarray(grid, dtype=float)
    odds = (events.odds * ratio)[:, np.newaxis]
    # 1 - pi + pi r is (1 + odds r) / (1 + odds): the second factor cancels between the two ratios.
    surprise = np.log1p(odds * (steps - 1) / (1 + odds))
    both = (events.challenger + events.champion)[:, np.newaxis]
    return np.asarray(events.challenger[:, np.newaxis] * np.log(steps) - both * surprise)


def _log_mixture(logs: FloatArray) -> FloatArray:
    """Return ln of the mean over the grid, the last axis."""
    highest = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - highest).mean(axis=-1)) + highest[..., 0])


_NO_SHARE = 1e-12
