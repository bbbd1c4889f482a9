"""Help that a person enjoys: options in named sections, room for long flags, commands that load when asked for."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

_WIDTH = 100
_LONGEST_TERM = 36
SETTINGS: Mapping[str, Any] = {"max_content_width": _WIDTH, "help_option_names": ["-h", "--help"]}


class Formatter(click.HelpFormatter):
    """Bold headings and coloured terms; click drops the colours where nobody would see them."""

    def write_heading(self, heading: str) -> None:
        """Writes a heading in bold."""
        super().write_heading(click.style(heading, bold=True))

    def write_dl(
        self, rows: Sequence[tuple[str, str]], col_max: int = _LONGEST_TERM, col_spacing: int = 2
    ) -> None:
        """Writes terms and what they mean, in two columns."""
        coloured = [(click.style(term, fg="cyan"), text) for term, text in rows]
        super().write_dl(coloured, col_max, col_spacing)


class Context(click.Context):
    """A context whose help is written by `Formatter`."""

    formatter_class = Formatter


class SectionOption(click.Option):
    """An option that is listed under the heading `section`."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command that lists its options by section, in the order of their declaration."""

    context_class = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one list for each section, `Options` last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for section in sorted(sections, key=lambda name: name == "Options"):
            with formatter.section(section):
                formatter.write_dl(sections[section])


class Group(click.Group):
    """A group whose commands share the look of `Command`."""

    context_class = Context
    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Names in the order of their declaration, not of the alphabet."""
        return list(self.commands)


class LazyGroup(Group):
    """A group that imports a command when it is run, so that help and errors come at once.

    `lazy` maps a command's name to where it is (`module:attribute`) and its line of help.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Names in the order of declaration."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The command of this name, or None."""
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes names and lines of help, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


def paragraphs(*texts: Iterable[str]) -> str:
    """Joins paragraphs of help."""
    return "\n\n".join("".join(text) for text in texts)
