"""The search for the end of an interval: outwards from the estimate, to the first value that is refuted."""

from collections.abc import Callable
from functools import cache
from math import exp, inf, log
from typing import Final, Literal

import scipy

from bandit.inference.sequential.results import Interval

Sign = Literal[1, -1]
"""1 for evidence that a value is larger than supposed, -1 that it is smaller."""

SIGNS: Final[tuple[Sign, Sign]] = (1, -1)


def interval_not_refuted(
    surplus: Callable[[float, Sign], float], start: float, step: float, reach: float, tolerance: float
) -> Interval:
    """Return the values that evidence of neither sign refutes, within `reach` of 0.

    Args:
        surplus: A function of a value and the sign of the evidence against it: ln E less the level.
        start: The estimate, from which the search goes outwards.
        step: The first step, positive.
        reach: The largest absolute value; an end that is not found lies there.
        tolerance: How exact the ends are.
    """
    lower, upper = (
        first_refuted(
            lambda value, sign=sign: surplus(value, sign),  # type: ignore[misc]
            start,
            -sign * step,
            -sign * reach,
            tolerance,
        )
        for sign in SIGNS
    )
    return Interval(-reach if lower is None else lower, reach if upper is None else upper)


def ratio_not_refuted(
    surplus: Callable[[float, Sign], float], estimate: float, step: float, tolerance: float
) -> Interval:
    """Return the ratios less 1 that evidence of neither sign refutes; infinite where none above is.

    The search is over logarithms, of which `step` and `tolerance` are.

    Args:
        surplus: As above, a function of the ratio.
        estimate: The estimated ratio, not negative.
        step: The first step.
        tolerance: How exact the ends are.
    """
    start = log(min(max(estimate, exp(-_LOG_REACH)), exp(_LOG_REACH)))
    found = interval_not_refuted(
        lambda value, sign: surplus(exp(value), sign), start, step, _LOG_REACH, tolerance
    )
    return Interval(
        exp(found.lower) - 1 if found.lower > -_LOG_REACH else -1.0,
        exp(found.upper) - 1 if found.upper < _LOG_REACH else inf,
    )


def first_refuted(
    surplus: Callable[[float], float], start: float, step: float, limit: float, tolerance: float
) -> float | None:
    """Return where values begin to be refuted; None if none up to the limit is.

    From a start that is refuted itself, that is on its other side, up to `-limit` at most.

    Args:
        surplus: A function of a value: ln E against it less the level, at least 0 if it is refuted. It rises
            in the direction of the search, as far as values are refuted.
        start: The estimate.
        step: The first step, in the direction of the search.
        limit: The last value.
        tolerance: How exact the result is.
    """

    @cache
    def bounded(value: float) -> float:
        return max(surplus(value), _LEAST)  # brentq needs finite values

    is_inside = bounded(start) < 0
    if not is_inside:
        step, limit = -step, -limit
    near, sign = start, 1.0 if step > 0 else -1.0
    while sign * (limit - near) > 0:
        far = near + step if sign * (limit - near - step) > 0 else limit
        if (bounded(far) < 0) != is_inside:
            return float(scipy.optimize.brentq(bounded, near, far, xtol=tolerance, rtol=_RELATIVE))
        near, step = far, 2 * step
    return None if is_inside else limit


_LOG_REACH: Final = log(1e6)
_LEAST = -1e3
_RELATIVE = 1e-9
