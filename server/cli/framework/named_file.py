"""Files of commands that can be neither standard input nor standard output."""

from pathlib import Path
from typing import Any

import click
from typing_extensions import override


class NamedFile(click.Path):
    """A path; `-` is refused, which elsewhere means a standard stream.

    A copy of the database that was meant for a pipe would otherwise become a file of that name, and what the
    command says about it would go through the pipe.
    """

    def __init__(self, *, dir_okay: bool = True, writable: bool = False) -> None:
        super().__init__(dir_okay=dir_okay, writable=writable, path_type=Path)

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "-":
            self.fail(
                "'-' is no file: neither standard input nor standard output can be used here. Name a file; "
                "one that is really called - is ./-",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)
