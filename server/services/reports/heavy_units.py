"""The note of a report on units that made too many of the decisions."""

from collections.abc import Iterator, Sequence
from typing import Final

from bandit.facts.units import N_GROUPS, N_STEERING, HeavyUnit
from server.wording import percent

_MOST_NAMED: Final = 5
_EXPECTED: Final = percent(1 / N_GROUPS)


def heavy_units_note(heavy: Sequence[HeavyUnit], name: str) -> Iterator[str]:
    """Yield which units made too many of the decisions, what that means, and what to do; nothing if none did.

    Args:
        heavy: The units, or groups of them, the largest first.
        name: The experiment's name.
    """
    if not heavy:
        return
    named = ", ".join(map(_describe, heavy[:_MOST_NAMED]))
    n_more = len(heavy) - _MOST_NAMED
    more = f" and {n_more} more" if n_more > 0 else ""
    command = f"`bandit-server experiment unit {name} UNIT`"
    if heavy[0].mark is not None:
        yield (
            f"Of the policy decisions, {named}{more}. Evidence counts such a unit once, and beliefs its "
            f"first {N_STEERING} decisions, so neither swings with it. It may be a bot, or a name that many "
            f"callers share: {command} tells whether a unit is one of these."
        )
    else:
        yield (
            f"Of the policy decisions, {named}{more}, where {_EXPECTED} is expected of each group of units. "
            "One unit is behind it, and shares, beliefs and evidence swing with its outcomes. If it is a "
            "bot, or a name that many callers share, stop asking for it, and declare analysis_unit = "
            f'"unit" in the next experiment. {command} tells whether a unit is of that group.'
        )


def _describe(heavy: HeavyUnit) -> str:
    made = f"made {percent(heavy.share)} ({heavy.n_decisions:,})"
    return f"group {heavy.group} {made}" if heavy.mark is None else f"unit {heavy.mark.hex()} {made}"
