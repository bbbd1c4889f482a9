"""Tables and progress in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

_PIPE_WIDTH: Final = 150


def console(*, stderr: bool = False) -> Console:
    """Return standard output or standard error; a pipe gets no colour and 150 columns."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if a terminal; the callable takes how many more steps are done."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    errors = console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda n_steps: progress.advance(task, n_steps)


def plain_table(title: str, *columns: str, n_left: int = 1, no_wrap: bool = False) -> Table:
    """Return an empty table, its first columns aligned left and the others right.

    Args:
        title: Its title, above it.
        columns: Headings.
        n_left: How many columns are aligned left; their cells stay on one line.
        no_wrap: Whether the cells of the others do, too.
    """
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_edge=False,
    )
    for number, column in enumerate(columns):
        is_left = number < n_left
        table.add_column(column, justify="left" if is_left else "right", no_wrap=is_left or no_wrap)
    return table
