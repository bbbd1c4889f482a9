"""Definition of the tables: the cells and columns of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.validity.cell import Cell
from benchmarks.validity.measures.measurements import Sample
from benchmarks.validity.measures.results import Figure, Kind, Row, figure_of


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its key in the sample, its heading, and the kind of its figures."""

    key: str
    heading: str
    kind: Kind = Kind.RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A table.

    Attributes:
        title: Its title.
        cells: Groups of the cells that it shows.
        columns: Its columns.
    """

    title: str
    cells: tuple[str, ...]
    columns: tuple[Column, ...]


_FIRST_DAYS: Final = (
    Column("spread", "spread beside\nplain means", Kind.SPREAD),
    Column("width", "half-width beside\na fixed sample", Kind.MEAN),
    Column("missed", "difference\nmissed at\nany look"),
    Column("any", "verdict:\nany difference"),
    Column("stands", "... still\nat the end"),
)

_ROLLBACK_RULES: Final = {
    "guardrail": "the\nguardrail",
    "margin": "... with a\nmargin of 10 %",
    "in_all": "twice in the last\nhour, five times",
    "in_a_row": "... in a row",
    "mann_whitney": "Mann-Whitney\nevery six hours",
}

GROUPS: Final = (
    Group(
        title="False positives: arms are equal at .10 on average, 20,000 decisions, a look after each epoch",
        cells=("equal",),
        columns=(
            Column("any", "verdict:\nany difference"),
            Column("stands", "... still\nat the end"),
            Column("better", "verdict:\nbetter"),
            Column("worse", "verdict:\nworse"),
            Column("alarm", "sample-ratio\nalarm"),
            Column("naive_once", "z-test\nonce"),
            Column("naive_peeked", "z-test\npeeked"),
        ),
    ),
    Group(
        title="Coverage: 95 % intervals hold the truth at every look (a difference that varies: at the last)",
        cells=("equal", "different", "crossing"),
        columns=(
            Column("holds_champion", "mean of\nchampion"),
            Column("holds_challenger", "mean of\nchallenger"),
            Column("holds_difference", "difference"),
            Column("holds_lift", "relative\nchange"),
            Column("holds_split", "value of\na 50/50 split"),
            Column("naive_holds", "naive\ndifference"),
        ),
    ),
    Group(
        title="Power: one challenger at .12, all others at .10; decisions until the verdict (quartiles)",
        cells=("different",),
        columns=(
            Column("first_better", "verdict"),
            Column("first_stands", "... still\nat the end"),
            Column("wrong", "verdict:\nwrong"),
            Column("naive_once", "z-test\nonce"),
            Column("decisions", "decisions", Kind.MEDIAN),
            Column("regret", "regret", Kind.MEAN),
        ),
    ),
    Group(
        title="Defects of logs, arms equal: the report, and the same tests with the defect folded in",
        cells=("defects",),
        columns=(
            Column("any", "verdict:\nany difference"),
            Column("alarm", "sample-ratio\nalarm"),
            Column("folded", "folded in:\nany difference"),
            Column("folded_alarm", "folded in:\nalarm"),
            Column("withheld", "evidence over\ndecisions\nwithheld"),
            Column("unwithheld", "found and\nnot withheld"),
            Column("naive_peeked", "z-test\npeeked"),
        ),
    ),
    Group(
        title="Promotion within 28 days of 4,000 decisions, base rate .05, floors 20/5",
        cells=("promotion",),
        columns=(
            Column("ours", "the\nruling"),
            Column("day", "day of it", Kind.MEDIAN),
            Column("retired", "ruling:\nretire"),
            Column("daily", "its e-process,\ndaily from day 7"),
            Column("best_day_1", "P(best)≥.95\nfrom day 1"),
            Column("best_day_14", "P(best)≥.95\nfrom day 14"),
            Column("loss", "loss ≤ 1 %\nfrom day 1"),
            Column("value_remaining", "value left\n≤ 1 %, day 14"),
        ),
    ),
    Group(
        title="Rolling back: challenger with 5 % of 40,000 decisions, champion's errors 1 %",
        cells=("rollback",),
        columns=(
            Column("fires", "guardrail\nfires"),
            Column("decisions", "decisions", Kind.MEDIAN),
            Column("trips", "fuse\ntrips"),
            Column("naive_peeked", "z-test\npeeked"),
        ),
    ),
    Group(
        title="Guardrails with a margin: a ramp and 28 days of 10,000 decisions, the champion's errors 2 %",
        cells=("margins",),
        columns=(
            Column("fires", "harm\nfound"),
            Column("day", "day of it", Kind.MEDIAN),
            Column("cleared", "not worse\nby it: found"),
            Column("cleared_day", "day of it", Kind.MEDIAN),
        ),
    ),
    Group(
        title="Signals: 56 days of 10,000 decisions, a quarter of them the challenger's; errors 2 %",
        cells=("signals",),
        columns=(
            Column("held", "ever on"),
            Column("changes", "changes", Kind.MEAN),
            Column("part", "part of the\ntime on", Kind.MEAN),
            Column("on_at_end", "on at\nthe end"),
            Column("naive_changes", "z-test of a day:\nchanges", Kind.MEAN),
            Column("naive_part", "part of the\ntime on", Kind.MEAN),
        ),
    ),
    Group(
        title="Static splits from a bandit's record (.10 against .12, floors 20/5), per 1,000 decisions",
        cells=("splits",),
        columns=(
            Column("robust_error", "error of the\nrobust value", Kind.MEAN),
            Column("naive_error", "error of the\nnaive value", Kind.MEAN),
            Column("gain", "bandit's\ngain", Kind.MEAN),
            Column("robust_gain", "robust\ngain", Kind.MEAN),
            Column("naive_gain", "naive\ngain", Kind.MEAN),
            Column("within_two", "within\n1.96 s.e."),
            Column("holds", "interval holds\nat all looks"),
        ),
    ),
    Group(
        title="First days, yes/no: arms are alike; figures beside what is required",
        cells=("first days",),
        columns=_FIRST_DAYS,
    ),
    Group(
        title="First days, amounts and counts: arms are alike; figures beside what is required",
        cells=("amounts",),
        columns=_FIRST_DAYS,
    ),
    Group(
        title="Effects that vary in time, 20,000 decisions",
        cells=("varying",),
        columns=(
            Column("missed_last", "last interval\nmisses the\nweighted mean"),
            Column("missed_ratio", "relative change\nmissed at\nany look"),
            Column("first_better", "verdict:\nbetter"),
            Column("first_stands", "... still\nat the end"),
        ),
    ),
    Group(
        title="Power: one challenger is better; decisions until the report's verdict (quartiles)",
        cells=("power",),
        columns=(
            Column("power", "found at some\nlook, one-sided\n.025"),
            Column("first_better", "the report's\nverdict"),
            Column("first_stands", "... still\nat the end"),
            Column("decisions", "decisions", Kind.MEDIAN),
        ),
    ),
    Group(
        title="Broken assumptions: no challenger is better (or worse) over all decisions",
        cells=("broken",),
        columns=(
            Column("found", "found at\nsome look"),
            Column("stands", "... and stands:\nat the end, not\nwithheld, closed"),
            Column("alarm", "response check\nalarms"),
        ),
    ),
    Group(
        title="Plans: decisions until a lift is seen, in % of those planned for even odds (quartiles)",
        cells=("plans",),
        columns=(
            Column("planned", "planned for\neven odds", Kind.MEAN),
            Column("seen", "seen, in %", Kind.MEDIAN),
            Column("within_half", "seen by the\nplan for 1/2"),
            Column("within_most", "seen by the\nplan for 4/5"),
        ),
    ),
    Group(
        title="Launches: five challengers a week apart, 10,000 decisions a day, base .05, errors .02",
        cells=("launches",),
        columns=(
            Column("promoted", "promoted,\nno better"),
            Column("naive_promoted", "... by a z-test\nat whole weeks"),
            Column("best_promoted", "promoted,\nbetter"),
            Column("day", "day of it", Kind.MEDIAN),
            Column("rolled_back", "rolled back,\nno harm"),
            Column("margin_rolled_back", "... with a\nmargin of 10 %"),
            Column("each_rolled_back", "... each\nat .05"),
        ),
    ),
    Group(
        title="Rolled back within 28 days of 10,000 decisions, the champion's errors 2 %: by which rule",
        cells=("rollback rules",),
        columns=tuple(
            column
            for rule, title in _ROLLBACK_RULES.items()
            for column in (
                Column(f"{rule}_fires", title),
                Column(f"{rule}_day", "day of it", Kind.MEDIAN),
            )
        ),
    ),
)


def row_of(cell: Cell, sample: Sample) -> Row:
    """Return the cell's figures, for all of its tables."""
    columns = _columns(cell)
    runs = len(next(iter(sample.values())))
    figures: Mapping[str, Figure] = {
        key: replace(figure_of(sample[key], column.kind), limit=cell.limits.get(key))
        for key, column in columns.items()
        if key in sample
    }
    return Row(group=cell.group, cell=cell.name, runs=runs, figures=figures)


def groups_with(rows: Sequence[Row]) -> list[tuple[Group, list[Row]]]:
    """Return the tables that have rows, with their rows."""
    of_group = [(group, [row for row in rows if row.group in group.cells]) for group in GROUPS]
    return [(group, found) for group, found in of_group if found]


def _columns(cell: Cell) -> dict[str, Column]:
    shown = (group.columns for group in GROUPS if cell.group in group.cells)
    return {column.key: column for columns in shown for column in columns if _is_apt(cell, column)}


def _is_apt(cell: Cell, column: Column) -> bool:
    """True if the column applies to the cell: arms that cross have no constant lift to cover."""
    return not (cell.group == "crossing" and column.key == "holds_lift")
