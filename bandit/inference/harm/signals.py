"""Signals: a challenger that seems to make a metric worse is held, and let go once it no longer looks bad.

A signal is *off* until the evidence that the challenger is worse than it may be reaches an e-value of 20;
then it is *on*, and a new e-process begins against "it is bad", that is worse by a quarter or by twice the
metric's margin. At 5 the signal goes off, and the first process begins anew. Each time that it has gone on
doubles the e-value needed for the next. So a challenger that is not worse than it may be is ever held with
probability at most 1/20, a second time with at most 1/20 x 1/40, and so on.

To be let go takes evidence, and not only less of it: a rule that lets go once the first process falls below
1 waits until an old incident has been outweighed, long after it is over.

A fold over rows in the order of epochs, from nothing but the table. While epochs are open, events that
come in late may move a change to another row, or undo it: the bound above is of rows that are complete. With
events that came in over eight rows on average, .038 of 2,000 equal challengers were on at some look.
"""

from dataclasses import dataclass
from math import log

import numpy as np

from bandit.inference.data.table import EvidenceTable
from bandit.inference.harm.margins import Edge, Ratio, closed_process, early_process, edge_of
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.results import RowwiseProcess
from bandit.metric import Direction, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule:
    """The constants of the rule.

    Attributes:
        pause_at: E-value at which the signal goes on for the first time; doubled after each time.
        resume_at: E-value at which it goes off.
        bad_by: Part of the champion's mean by which a challenger is bad on a metric without a margin.
        bad_margins: The number of margins by which it is bad on a metric with one.
    """

    pause_at: float = 20.0
    resume_at: float = 5.0
    bad_by: float = 0.25
    bad_margins: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalState:
    """A signal's state for one challenger.

    Attributes:
        changes: The rows of the table after which it changed: on, off, on, ...
        log_e_value: Ln of the e-value now of the process under way: off, that the challenger is worse than it
            may be; on, that it is not bad.
        log_threshold: Ln of the e-value at which the signal changes.
    """

    changes: tuple[int, ...]
    log_e_value: float
    log_threshold: float

    @property
    def is_held(self) -> bool:
        """Whether it is on: the challenger is to stay where it is."""
        return len(self.changes) % 2 == 1

    @property
    def n_pauses(self) -> int:
        """How many times it has gone on."""
        return (len(self.changes) + 1) // 2

    @property
    def since_row(self) -> int | None:
        """The row of the table after which it last changed; None if it never has."""
        return self.changes[-1] if self.changes else None


def signal_state(
    metric: Metric,
    table: EvidenceTable | CannotSay,
    arm: int,
    champion: int,
    design: Design,
    rule: SignalRule | None = None,
) -> SignalState | CannotSay:
    """Return the state of a signal for one challenger.

    Args:
        metric: The signal.
        table: Its table, with open epochs if it `counts_early` and without if not; or why there is none.
        arm: Number of the challenger.
        champion: Number of the champion.
        design: Floors, by which bounded scores are scaled.
        rule: The constants; None for the defaults.
    """
    if isinstance(table, CannotSay):
        return table
    rule = rule or SignalRule()
    worse = _process(metric, table, arm, champion, edge_of(metric), design, is_worse=True)
    bad = _process(metric, table, arm, champion, bad_edge(metric, rule), design, is_worse=False)
    if isinstance(worse, CannotSay):
        return worse
    return bad if isinstance(bad, CannotSay) else fold_signal(worse, bad, rule)


def bad_edge(metric: Metric, rule: SignalRule) -> Edge:
    """Return the edge from which a challenger is bad: beyond the margin, so that letting go can be shown."""
    if metric.worse_by is not None:
        return edge_of(metric, rule.bad_margins)
    return Ratio(1 + rule.bad_by if metric.direction is Direction.MINIMIZE else 1 / (1 + rule.bad_by))


def fold_signal(worse: RowwiseProcess, bad: RowwiseProcess, rule: SignalRule) -> SignalState:
    """Fold both processes into the state after their last row.

    Args:
        worse: Evidence that the challenger is worse than it may be.
        bad: Evidence against "it is bad", over the same rows.
        rule: The constants.
    """
    start, changes = 0, list[int]()
    while True:
        is_held, n_pauses = len(changes) % 2 == 1, len(changes) // 2
        threshold = log(rule.resume_at) if is_held else log(rule.pause_at) + n_pauses * log(2)
        values = (bad if is_held else worse).log_values(start)
        reached = np.flatnonzero(values >= threshold)
        if len(reached) == 0:
            return SignalState(
                changes=tuple(changes),
                log_e_value=float(values[-1]) if len(values) else 0.0,
                log_threshold=threshold,
            )
        start += int(reached[0]) + 1
        changes.append(worse.rows[start - 1])


def _process(
    metric: Metric,
    table: EvidenceTable,
    arm: int,
    champion: int,
    edge: Edge,
    design: Design,
    *,
    is_worse: bool,
) -> RowwiseProcess | CannotSay:
    if metric.counts_early and isinstance(edge, Ratio):
        return early_process(table, arm, champion, edge, is_worse=is_worse)
    return closed_process(table, arm, champion, edge, design, is_worse=is_worse)
