"""Wording shared by the service's sentences and the command line's tables: percentages, durations, splits."""

from collections.abc import Mapping
from math import floor, isfinite, log10
from typing import Final

from bandit.experiment import AnalysisUnit
from bandit.metric import AbsoluteMargin, Margin, RelativeMargin

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


def margin_text(margin: Margin) -> str:
    """Return by how much a challenger may be worse.

    >>> margin_text(RelativeMargin(0.1)), margin_text(AbsoluteMargin(0.002))
    ('10 %', '0.002')
    """
    match margin:
        case RelativeMargin(part):
            return f"{100 * part:.6g} %"
        case AbsoluteMargin(difference):
            return f"{difference:,.6g}"


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


def counted(unit: AnalysisUnit) -> str:
    """Return what evidence counts, in the plural.

    >>> counted(AnalysisUnit.UNIT)
    'units'
    """
    return f"{unit}s"


def duration_text(seconds: float) -> str:
    """Format a finite duration in the unit that fits, from seconds to years.

    >>> duration_text(2_400), duration_text(11_520), duration_text(11_122 * 86_400)
    ('40 minutes', '3.2 hours', '30 years')
    """
    unit, size = next(
        ((unit, size) for unit, size, least in _DURATIONS if seconds >= least), _DURATIONS[-1][:2]
    )
    amount = _amount(seconds / size)
    return f"{amount} {unit if amount == '1' else unit + 's'}"


def days_text(days: float) -> str:
    """Format days as a duration, or as "never" if they are infinite.

    >>> days_text(0.5), days_text(float("inf"))
    ('12 hours', 'never')
    """
    return duration_text(_RATES[0][1] * days) if isfinite(days) else "never"


def rate_text(per_day: float, seconds: float, things: str) -> str:
    """Format traffic by the largest unit, up to a day, that lies within the time over which it was measured.

    Args:
        per_day: The traffic by day, not negative.
        seconds: The time over which it was measured.
        things: What is counted, in the plural.

    >>> rate_text(396_000, 60, "decisions"), rate_text(275, 90_000, "units")
    ('275 decisions a minute', '275 units a day')
    """
    name, size = next(((name, size) for name, size in _RATES if seconds >= size), _RATES[-1])
    return f"{_amount(per_day * size / _RATES[0][1])} {things} {name}"


def minimum_share_text(share: float) -> str:
    """Return the advice for floors at which a lift is out of reach.

    >>> minimum_share_text(0.05)
    'That is because the losing arm gets too small a share: declare a minimum share of 5 % for every arm.'
    """
    cause = "That is because the losing arm gets too small a share"
    return f"{cause}: declare a minimum share of {100 * share:g} % for every arm."


def _amount(number: float) -> str:
    """Format a count or a measure: at least two digits, and whole numbers from ten on.

    >>> _amount(3.24), _amount(1.02), _amount(0.0312), _amount(4_321.7)
    ('3.2', '1', '0.031', '4,322')
    """
    return f"{number:,.0f}" if number >= _WHOLE_FROM else f"{number:.2g}"


_WHOLE_FROM: Final = 9.95
_DURATIONS: Final = (
    ("year", 31_557_600.0, 2 * 31_557_600.0),
    ("week", 604_800.0, 8 * 604_800.0),
    ("day", 86_400.0, 2 * 86_400.0),
    ("hour", 3_600.0, 1.5 * 3_600.0),
    ("minute", 60.0, 60.0),
    ("second", 1.0, 0.0),
)
"""Units of time: their seconds, and the seconds from which a duration is given in them."""

_RATES: Final = (("a day", 86_400.0), ("an hour", 3_600.0), ("a minute", 60.0), ("a second", 1.0))


def shown_difference(value: float, other: float, digits: int) -> float:
    """Return the difference of two numbers as they are shown, so that a row adds up to its last digit.

    >>> shown_difference(0.1044, 0.0996, 3)
    0.004
    """
    return round(round(value, digits) - round(other, digits), digits) + 0.0


def digits_for(standard_error: float, width: float) -> int:
    """Return the decimals for an estimate: two figures of its standard error.

    Args:
        standard_error: Not negative; one that is tiny beside the interval is noise.
        width: The width of its interval.

    >>> digits_for(0.013, 0.1), digits_for(0.0, 88.0)
    (3, 3)
    """
    error = max(standard_error, _LEAST_OF_WIDTH * width)
    return min(max(1 - floor(log10(error)), 0), _MOST_DIGITS) if error > 0 else _FEW_DIGITS


_LEAST_OF_WIDTH: Final = 1e-3
_MOST_DIGITS: Final = 8
_FEW_DIGITS: Final = 3
