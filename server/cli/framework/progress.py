"""A progress bar for slow work."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from server.cli.framework.console import error_console


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal; yield a callable for (done, total).

    SIGTERM raises SystemExit during the block, so that partly written files are deleted.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = error_console()
    is_shown = console.is_terminal
    with (
        ending_on_sigterm(),
        Progress(*columns, console=console, transient=True, disable=not is_shown) as bar,
    ):
        task = bar.add_task(title, total=None)
        yield lambda n_done, n_total: bar.update(task, completed=n_done, total=n_total)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that files are deleted and child processes stopped."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
