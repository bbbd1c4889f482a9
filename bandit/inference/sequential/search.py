"""The search for the end of an interval: outwards from the estimate, to the first value that is refuted."""

from collections.abc import Callable
from functools import cache

import scipy


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


_LEAST = -1e3
_RELATIVE = 1e-9
