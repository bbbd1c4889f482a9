"""Help output: options in named sections, room for long flags, and no slow imports."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import ClassVar

import click

_LONGEST_TERM = 36


class Formatter(click.HelpFormatter):
    """A formatter with bold headings and coloured terms; click drops colours outside terminals."""

    def write_heading(self, heading: str) -> None:
        """Write a heading in bold."""
        super().write_heading(click.style(heading, bold=True))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = _LONGEST_TERM, col_spacing: int = 2
    ) -> None:
        """Write terms and their meanings in two columns."""
        coloured = [(click.style(term, fg="cyan"), text) for term, text in rows]
        super().write_dl(coloured, col_max, col_spacing)


class Context(click.Context):
    """A context whose help is written by `Formatter`."""

    formatter_class = Formatter


class Command(click.Command):
    """A command that lists its options by section.

    `sections` maps a heading to the parameters below it; all others are listed last, as `Options`.
    """

    context_class = Context
    sections: ClassVar[Mapping[str, Sequence[str]]] = {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each section."""
        options = (option for option in self.get_params(ctx) if isinstance(option, click.Option))
        found = {option.name: option.get_help_record(ctx) for option in options}
        records = {name: record for name, record in found.items() if record is not None}
        width = max(len(term) for term, _ in records.values())
        unlisted = records.keys() - {name for names in self.sections.values() for name in names}
        others = {"Options": [name for name in records if name in unlisted]}
        for section, names in {**self.sections, **others}.items():
            with formatter.section(section):
                formatter.write_dl([(records[name][0].ljust(width), records[name][1]) for name in names])


class Group(click.Group):
    """A group of commands of the type `Command`."""

    context_class = Context
    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return names in the order of declaration, not alphabetically."""
        return list(self.commands)


class LazyGroup(Group):
    """A group that imports a command only to run it, so that help and errors are fast.

    `lazy` maps a command's name to its location (`module:attribute`) and its line of help.
    """

    lazy: ClassVar[Mapping[str, tuple[str, str]]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return names in the order of declaration."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import and return the command of this name, or None."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write names and lines of help, without imports."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])
