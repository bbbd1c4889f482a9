"""Finite numbers on the command line: click's own ranges take NaN, which no bound stops."""

import math

import click
from typing_extensions import override


class FiniteFloat(click.FloatRange):
    """A number within bounds, as `click.FloatRange` has them, that is neither NaN nor infinite."""

    @override
    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; fails as a usage error."""
        number = float(super().convert(value, param, ctx))  # type: ignore[arg-type]  # it reads text
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
