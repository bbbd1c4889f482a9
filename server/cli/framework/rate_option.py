"""`--guardrail-rate error=0.02`: a name with a number."""

import click


class NamedRate(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A name and a number."""

    name = "NAME=RATE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Parse a pair."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).rpartition("=")
        try:
            rate = float(number)
        except ValueError:
            rate = None
        if not name or rate is None:
            self.fail(f"{value!r} must be NAME=RATE, such as error=0.02", param, ctx)
        return name.strip(), rate
