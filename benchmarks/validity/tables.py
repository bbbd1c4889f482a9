"""Tables of figures for the terminal."""

from collections.abc import Sequence
from math import isfinite

from rich.console import Console

from benchmarks.harness.console import plain_table
from benchmarks.validity.groups import groups_with
from benchmarks.validity.measures.results import Figure, Row


def print_rows(rows: Sequence[Row], out: Console) -> None:
    """Print every table that has rows, with standard errors."""
    for group, found in groups_with(rows):
        table = plain_table(group.title, "cell", *(column.heading for column in group.columns), "runs")
        for row in found:
            cells = [_text(row.figures.get(column.key)) for column in group.columns]
            name = row.cell if len(group.cells) == 1 else f"{row.group}: {row.cell}"
            table.add_row(name, *cells, f"{row.runs:,}")
        out.print(table)
        out.print()


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if figure.limit is not None:
        mark = " MISSED" if figure.is_missed else ""
        return f"{_number(figure)} {figure.limit}{mark}"
    return _number(figure)


def _number(figure: Figure) -> str:
    if figure.quartiles is not None and not isfinite(figure.quartiles[0]):
        return "never"
    if figure.quartiles is not None:
        return f"{_count(figure.value)} ({_count(figure.quartiles[0])}-{_count(figure.quartiles[1])})"
    error = figure.standard_error or 0.0
    digits = 1 if abs(figure.value) >= _LARGE else 3
    return f"{figure.value:.{digits}f} ±{error:.{digits}f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if isfinite(value) else "never"


_LARGE = 20
