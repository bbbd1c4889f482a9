"""The columns of an export's tables, from which headers, types and descriptions are taken."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = str | float | bool | None
Row: TypeAlias = tuple[Value, ...]
"""One value for each column, in order; None is an empty field."""


class Kind(enum.StrEnum):
    """The type of a column."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    INSTANT = "instant"
    """Rows hold whole microseconds since 1970; files show an instant, in UTC."""


class TableName(enum.StrEnum):
    """The tables, in the order of a reader's interest."""

    FACTS = "facts"
    EVIDENCE = "evidence"
    EPOCHS = "epochs"
    REWARDS = "rewards"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its heading.
        kind: Its type.
        meaning: One sentence for the reader of the file.
    """

    name: str
    kind: Kind
    meaning: str


_EPOCH: Final = Column("epoch", Kind.INTEGER, "Number of the decision's epoch; shares are constant in it.")
_SEGMENT: Final = Column("segment", Kind.INTEGER, "Number of the decision's segment; 0 holds every unit.")
_ARM: Final = Column("arm", Kind.TEXT, "Id of the arm; empty if a restored database does not know it.")
_METRIC: Final = Column("metric", Kind.TEXT, "Name of the metric.")
_BASIS: Final = Column(
    "basis",
    Kind.TEXT,
    "The kind of decision: policy (drawn from the epoch's shares), restricted (the caller allowed fewer "
    "arms), fallback, unconfirmed, shadow, or, of outcomes, uncounted (the decision's count was lost). Only "
    "policy decisions may be weighted.",
)
_PROPENSITY: Final = Column(
    "propensity",
    Kind.NUMBER,
    "Probability with which a policy decision of the epoch was for the arm: its share. Empty for any other "
    "basis.",
)

FACTS: Final = (
    _EPOCH,
    _SEGMENT,
    _ARM,
    _BASIS,
    _METRIC,
    _PROPENSITY,
    Column("is_closed", Kind.BOOLEAN, "Whether no outcome of the epoch can be in time any more."),
    Column("decisions", Kind.INTEGER, "Decisions; the same in the row of every metric."),
    Column("outcomes", Kind.INTEGER, "Outcomes that came within the metric's window."),
    Column(
        "total",
        Kind.NUMBER,
        "Their sum, in the metric's unit: exact, of values that count in steps of the metric's resolution.",
    ),
    Column("squares", Kind.NUMBER, "The sum of their squares."),
    Column(
        "resolved",
        Kind.INTEGER,
        "Observations: the outcomes, and where silence has a value also the decisions without an outcome in "
        "time. Empty until the epoch is closed.",
    ),
    Column("resolved_total", Kind.NUMBER, "The sum of the observations."),
    Column("resolved_squares", Kind.NUMBER, "The sum of their squares."),
    Column("mean_at_start", Kind.NUMBER, "The arm's posterior mean when the epoch began."),
    Column("late_outcomes", Kind.INTEGER, "Outcomes that came after the window; no column before has them."),
    Column("late_total", Kind.NUMBER, "Their sum."),
    Column("late_squares", Kind.NUMBER, "The sum of their squares."),
)

EVIDENCE: Final = (
    Column(
        "row",
        Kind.INTEGER,
        "Number of the row, from 1, in the order in which evidence reads them: first the parts of the first "
        "epoch, then epochs.",
    ),
    _EPOCH,
    Column(
        "part",
        Kind.INTEGER,
        "Part of the first epoch, from 1: a random part of its decisions or units. Empty for a whole epoch.",
    ),
    _ARM,
    _METRIC,
    Column("share", Kind.NUMBER, "The arm's share; 0 if it had none."),
    Column(
        "resolved",
        Kind.INTEGER,
        "Observations: decisions, or units at first exposure, as evidence counts.",
    ),
    Column("resolved_total", Kind.NUMBER, "The sum of the observations, in the metric's unit."),
    Column("resolved_squares", Kind.NUMBER, "The sum of their squares."),
    Column("centre", Kind.NUMBER, "Mean observation of all arms in all rows before; empty in the first."),
    Column(
        "arm_centre",
        Kind.NUMBER,
        "(sum + 50 centre) / (n + 50) over the arm's observations in all rows before; empty in the first.",
    ),
    Column(
        "is_tested", Kind.BOOLEAN, "Whether the row counts in tests: at least 32 observations lie before it."
    ),
)

REWARDS: Final = (
    Column("decision", Kind.TEXT, "The decision's unique id, 32 hexadecimal digits, ordered by time."),
    Column("decided_at", Kind.INSTANT, "When the decision was made."),
    Column("received_at", Kind.INSTANT, "When its first outcome of this metric arrived."),
    _EPOCH,
    _SEGMENT,
    _ARM,
    _BASIS,
    _PROPENSITY,
    _METRIC,
    Column(
        "value",
        Kind.NUMBER,
        "The outcome as it was posted last. Where the metric clips, it may lie outside the range, and then "
        "counts as the nearest bound; a real value recorded by version 0.2 is rounded to range / 2^20.",
    ),
    Column("revision", Kind.INTEGER, "Its revision; a higher one has replaced what was posted before."),
    Column("is_late", Kind.BOOLEAN, "Whether it came after the metric's window."),
    Column(
        "is_apart",
        Kind.BOOLEAN,
        "Whether it is in no fact, since a restored database has another epoch of this number.",
    ),
)

_EPOCHS: Final = (
    _EPOCH,
    _SEGMENT,
    _ARM,
    Column("share", Kind.NUMBER, "The arm's share: the propensity of policy decisions for it."),
    Column("is_champion", Kind.BOOLEAN, "Whether the arm was the champion."),
    Column("is_warming_up", Kind.BOOLEAN, "Whether the share was set by the arm's warm-up."),
    Column("started_at", Kind.INSTANT, "When the epoch began."),
    Column("ended_at", Kind.INSTANT, "When the next one began; empty for the epoch in force."),
    Column("is_closed", Kind.BOOLEAN, "Whether no outcome of the reward metric can be in time any more."),
    Column("revision", Kind.INTEGER, "Revision of the configuration that the shares were computed from."),
)


_SAMPLE: Final = Column(
    "shadow_propensity",
    Kind.NUMBER,
    "Probability with which the arm saw a policy decision of the champion in shadow; empty if it was not in "
    "shadow.",
)


def epochs_columns(metrics: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of the epochs table, with a column of posterior means for each metric."""
    means = (
        Column(f"mean_{metric}", Kind.NUMBER, f"The arm's posterior mean of {metric} at the epoch's start.")
        for metric in metrics
    )
    return (*_EPOCHS, *means, _SAMPLE)
