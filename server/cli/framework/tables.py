"""Tables that lose nothing in a narrow terminal: columns that do not fit are printed below the others."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

_GAP: Final = 2
"""Characters between two columns."""

_READABLE: Final = 16
"""A column whose cells may take several lines is not made narrower than this, or than its longest word."""


def plain_table(title: str = "") -> Table:
    """Return an empty table with a rule below its headings and no other lines."""
    return Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_edge=False,
        header_style="bold",
    )


def print_table(console: Console, table: Table) -> None:
    """Print a table, in several parts where the console is too narrow for all of its columns at once."""
    for index, part in enumerate(_parts(table, console.width)):
        if index:
            console.print()
        console.print(part)


def _parts(table: Table, width: int) -> Iterator[Table]:
    """Yield tables of the first column and as many others as fit, with the cells of each column."""
    first, *others = table.columns
    start = least = _least_width(first)
    chosen: list[Column] = []
    title = str(table.title or "")
    for column in others:
        needed = _GAP + _least_width(column)
        if chosen and least + needed > width:
            yield _part(table, title, [first, *chosen], fits=least <= width)
            chosen, least, title = [], start, ""
        chosen.append(column)
        least += needed
    yield _part(table, title, [first, *chosen], fits=least <= width)


def _part(table: Table, title: str, columns: Sequence[Column], *, fits: bool) -> Table:
    """Return a table of these columns; where they do not fit, cells are folded rather than cut."""
    part = plain_table(title)
    for column in columns:
        is_folded = not column.no_wrap or not fits
        part.add_column(
            column.header,
            justify=column.justify,
            no_wrap=not is_folded,
            overflow="fold" if is_folded else "ellipsis",
            min_width=column.min_width if fits else None,
        )
    for row, *cells in zip(table.rows, *(column.cells for column in columns), strict=True):
        part.add_row(*cells, style=row.style)
    return part


def _least_width(column: Column) -> int:
    """Return the characters that a column needs, so that nothing is cut and no number is folded."""
    texts = [str(column.header), *map(str, column.cells)]
    if column.no_wrap:
        return max(cell_len(line) for text in texts for line in text.splitlines() or [""])
    longest = max(cell_len(word) for text in texts for word in text.split() or [""])
    return max(column.min_width or 0, min(longest, _READABLE))
