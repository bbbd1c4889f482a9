"""The search for the end of an interval, on functions whose end is known."""

from math import inf

import pytest

from bandit.inference.sequential.search import first_refuted


@pytest.mark.parametrize("step", [1e-6, 0.03, 0.5, 40.0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("end", [0.2001, 0.7, 0.99])
def test_the_end_is_where_values_begin_to_be_refuted(step: float, sign: int, end: float) -> None:
    """In either direction, and with a first step of any size, the end is found."""
    found = first_refuted(lambda x: sign * x - end, sign * 0.2, sign * step, sign, 1e-9)
    assert found == pytest.approx(sign * end, abs=1e-8)


def test_no_end_up_to_the_limit_is_none() -> None:
    """A function that never reaches 0 has no end, nor has one that reaches it beyond the limit."""
    assert first_refuted(lambda _: -inf, 0.0, 0.1, 1.0, 1e-6) is None
    assert first_refuted(lambda x: x - 1.001, 0.0, 0.1, 1.0, 1e-6) is None
    assert first_refuted(lambda x: x - 1, 1.0, 0.1, 1.0, 1e-6) == 1.0
    assert first_refuted(lambda x: x - 2, 1.0, 0.1, 1.0, 1e-6) is None


def test_plateaus_and_lost_bets_are_searched_across() -> None:
    """Between a start at -inf, a plateau and a jump, the end is at the jump."""

    def surplus(x: float) -> float:
        if x < 0.1:
            return -inf
        return -3.0 if x < 0.6 else 1e8

    assert first_refuted(surplus, 0.0, 0.01, 1.0, 1e-9) == pytest.approx(0.6, abs=1e-8)


def test_a_refuted_start_lies_beyond_the_end() -> None:
    """From a refuted start the end is searched for on the other side; if all is refuted it is there."""
    assert first_refuted(lambda x: x + 0.4, 0.3, 0.1, 1.0, 1e-9) == pytest.approx(-0.4, abs=1e-8)
    assert first_refuted(lambda x: -x + 0.4, 0.3, -0.1, -1.0, 1e-9) == pytest.approx(0.4, abs=1e-8)
    assert first_refuted(lambda _: 1.0, 0.3, 0.1, 1.0, 1e-9) == -1.0


def test_no_value_is_evaluated_twice() -> None:
    """An evaluation costs much, so the search for a smooth end takes a dozen, all of them different."""
    seen = []

    def surplus(x: float) -> float:
        seen.append(x)
        return (x / 0.02) ** 2 / 2 - 5.3

    first_refuted(surplus, 0.0, 0.08, 1.0, 2e-5)
    assert len(seen) == len(set(seen)) <= 12
