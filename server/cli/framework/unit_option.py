"""A unit on the command line: the same text that a backend sends in Choose."""

import os

import click
from typing_extensions import override

from bandit.text import MAX_UNIT, Kind, text_fault


class Unit(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A unit, by the rule of `bandit.text`; an empty one is left to the command."""

    name = "UNIT"

    @override
    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the unit; in a locale without UTF-8 too its bytes are taken as UTF-8."""
        try:
            text = os.fsencode(str(value)).decode()
        except UnicodeError:
            self.fail("is not UTF-8, and a unit is", param, ctx)
        if text and (fault := text_fault(text, Kind.UNIT, MAX_UNIT)):
            self.fail(fault, param, ctx)
        return text
