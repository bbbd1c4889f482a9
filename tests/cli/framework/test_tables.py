"""Tables in narrow terminals: nothing is cut."""

import io
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from server.cli.framework.tables import plain_table, print_table

CELLS = st.text("ab0,.%- é中", max_size=40).map(str.strip)


def printed(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, no_wrap: bool) -> str:
    """Return a table as printed at a width."""
    table = plain_table()
    for heading in headings:
        table.add_column(heading, no_wrap=no_wrap)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    print_table(Console(file=stream, width=width, markup=False, highlight=False, emoji=False), table)
    return stream.getvalue()


@given(
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=4),
    width=st.integers(20, 60),
    no_wrap=st.booleans(),
)
def test_every_character_is_printed_at_any_width(rows: list[list[str]], width: int, *, no_wrap: bool) -> None:
    """From 20 columns on, every character of every cell is in the output, and no line is too long."""
    text = printed(["w", "x", "y", "z"], rows, width, no_wrap=no_wrap)
    assert "…" not in text
    for letter in "ab0,.%-é中":
        assert text.count(letter) >= sum(cell.count(letter) for row in rows for cell in row)
    cells = Console(width=width)
    assert all(cells.measure(line).maximum <= width for line in text.splitlines())


def test_numbers_stay_whole_beside_their_names() -> None:
    """Columns that do not fit come below, each part beside the first column."""
    rows = [["champion", "12,345", "0.123 to 0.456"], ["challenger", "678", "0.1 to 0.2"]]
    text = printed(["arm", "decisions", "interval"], rows, 30, no_wrap=True)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "champion 12,345" in lines
    assert "challenger 0.1 to 0.2" in lines


def test_a_wide_console_gets_one_table() -> None:
    """Where everything fits, a table is printed once."""
    text = printed(["arm", "n"], [["v1", "1"]], 100, no_wrap=True)
    assert text.splitlines() == ["arm  n", "──────", "v1   1"]
