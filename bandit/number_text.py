"""Numbers as text in messages about rules: what broke a rule must not look as if it kept it."""

from typing import Final

_FEWEST_DIGITS: Final = 6
_MOST_DIGITS: Final = 17


def exact(value: float) -> str:
    """Return a short text that reads back as the value, as its author may have written it.

    >>> exact(0.1), exact(1.0), exact(1.000000001), exact(1e100), exact(float("nan"))
    ('0.1', '1', '1.000000001', '1e+100', 'nan')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value)).removesuffix(".0")


def beside(value: float, bound: float) -> str:
    """Return a computed value to six digits, or to as many as show on which side of the bound it is.

    >>> beside(1.2000000000000002, 1), beside(0.3 + 0.7 + 1e-9, 1), beside(0.9999999, 1)
    ('1.2', '1.000000001', '0.9999999')
    """
    for n_digits in range(_FEWEST_DIGITS, _MOST_DIGITS):
        text = f"{value:.{n_digits}g}"
        shown = float(text)
        if (shown > bound, shown < bound) == (value > bound, value < bound):
            return text
    return exact(value)
