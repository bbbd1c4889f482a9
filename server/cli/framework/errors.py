"""What a person reads when a command fails: one line for each thing that is wrong, and no traceback.

click.ClickException
└── CommandError    exit code 1: it failed; 2: it was called wrongly
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

import click

_MOST_LINES: Final = 60


class CommandError(click.ClickException):
    """A command that failed, and why, line by line; of very many only the first are kept."""

    def __init__(self, *lines: str) -> None:
        each = "\n".join(lines).splitlines()
        n_more = len(each) - _MOST_LINES
        more = [f"and {n_more:,} more"] if n_more > 0 else []
        super().__init__("\n".join([*each[:_MOST_LINES], *more]))

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints `error: LINE` for each line, on standard error if not told otherwise."""
        for line in self.message.splitlines():
            click.echo(f"{click.style('error:', fg='red', bold=True)} {line}", file=file, err=file is None)


class CalledWronglyError(CommandError):
    """Settings or arguments that can't be used."""

    exit_code = 2


@contextmanager
def reporting(kind: type[Exception], reported: type[CommandError] = CommandError) -> Iterator[None]:
    """Turns errors of `kind`, whose text is for people, into the command's own."""
    try:
        yield
    except kind as error:
        raise reported(str(error)) from error
