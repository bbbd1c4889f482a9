"""Wording shared by the service's sentences and the command line's tables: percentages, names of splits."""

from collections.abc import Mapping
from typing import Final

_SMALLEST_SHOWN: Final = 0.001
_TEN_FOLD: Final = 10
_MOST_NAMED: Final = 5


def percent(share: float) -> str:
    """Format a probability in percent; one close to 0 or 1 is not rounded to it.

    >>> percent(0.25), percent(0.00001), percent(0.99999)
    ('25.0 %', '<0.1 %', '>99.9 %')
    """
    if 0 < share < _SMALLEST_SHOWN:
        return "<0.1 %"
    if 1 - _SMALLEST_SHOWN < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def signed_percent(change: float) -> str:
    """Format a relative change in percent; from ten-fold on, where percentages do not help, as a multiple.

    >>> signed_percent(-0.25), signed_percent(30)
    ('-25 %', '31 times')
    """
    return f"{1 + change:.3g} times" if abs(change) >= _TEN_FOLD else f"{100 * change:+.3g} %"


def split_name(weights: Mapping[str, float]) -> str:
    """Return the parts of a static split, or the number of its arms where there are many.

    Args:
        weights: Arm id to weight, with a positive sum.

    >>> split_name({"b": 1, "a": 3})
    'a 0.75 / b 0.25'
    """
    if len(weights) > _MOST_NAMED:
        even = "even " if len(set(weights.values())) == 1 else ""
        return f"{even}over {len(weights):,} arms"
    total = sum(weights.values())
    return " / ".join(f"{arm} {weight / total:.3g}" for arm, weight in sorted(weights.items()))
