"""Errors of commands: one line for each problem, and no traceback.

click.ClickException
└── CommandError    exit code 1: failed; 2: called wrongly
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

import click

_MAX_LINES: Final = 60


class CommandError(click.ClickException):
    """A failed command, with one line for each reason; only the first 60 are kept."""

    def __init__(self, *lines: str) -> None:
        each = "\n".join(lines).splitlines()
        n_more = len(each) - _MAX_LINES
        more = [f"and {n_more:,} more"] if n_more > 0 else []
        super().__init__("\n".join([*each[:_MAX_LINES], *more]))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print `error: LINE` for each line, on standard error by default."""
        for line in self.message.splitlines():
            click.echo(f"{click.style('error:', fg='red', bold=True)} {line}", file=file, err=file is None)


class CalledWronglyError(CommandError):
    """Invalid settings or arguments."""

    exit_code = 2


@contextmanager
def reporting(
    kind: type[Exception], reported: type[CommandError] = CommandError, prefix: str = ""
) -> Iterator[None]:
    """Raise errors of `kind`, whose text is written for users, as `reported`, behind a prefix.

    One whose own `exit_code` is 2 becomes a `CalledWronglyError`.
    """
    try:
        yield
    except kind as error:
        is_wrong = getattr(error, "exit_code", None) == CalledWronglyError.exit_code
        raise (CalledWronglyError if is_wrong else reported)(f"{prefix}{error}") from error
