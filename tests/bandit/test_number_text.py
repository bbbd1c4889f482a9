"""Numbers in messages: what broke a rule looks as if it did."""

from hypothesis import given
from hypothesis import strategies as st

from bandit.number_text import beside, exact

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_exact_reads_back(value: float) -> None:
    """The text is the value, whatever its size."""
    assert float(exact(value)) == value


@given(FINITE, FINITE)
def test_the_side_of_a_bound_is_shown(value: float, bound: float) -> None:
    """The text is above, at or below the bound as the value is."""
    shown = float(beside(value, bound))
    assert (shown > bound, shown < bound) == (value > bound, value < bound)


@given(st.integers(1, 999_999), st.integers(0, 6))
def test_six_digits_are_shown_as_written(number: int, exponent: int) -> None:
    """Nobody sees more digits than are needed."""
    text = f"{number / 10**exponent:g}"
    assert exact(float(text)) == text
