"""`--split v1=50,v2=50`: a static split by hand."""

from collections.abc import Sequence

import click

_FORM = "must be ARM=WEIGHT,ARM=WEIGHT, such as v1=50,v2=50"


class Split(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """Arm id to weight; weights need not sum to 1."""

    name = "ARM=WEIGHT,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        """Parse a split."""
        if isinstance(value, dict):
            return value
        pairs = [pair.partition("=") for pair in str(value).split(",")]
        try:
            split = {arm.strip(): float(weight) for arm, _, weight in pairs}
        except ValueError:
            self.fail(f"{value!r} {_FORM}", param, ctx)
        return self._checked(split, pairs, param, ctx)

    def _checked(
        self,
        split: dict[str, float],
        pairs: Sequence[tuple[str, str, str]],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        if len(split) < len(pairs):
            self.fail("names an arm twice", param, ctx)
        return split
