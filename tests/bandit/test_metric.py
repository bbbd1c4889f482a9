"""Values as whole quanta: exact, bounded, and always numbers."""

import math
import sys
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.allocation import MAX_EPOCH_DECISIONS
from bandit.metric import LARGEST_COUNT, N_STEPS, Metric, MetricKind, OutcomeValueError
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior

BINARY = Metric(name="clicked")
COUNT = Metric(name="plays", kind=MetricKind.COUNT, maximum=1000.0)
REAL = Metric(name="delta", kind=MetricKind.REAL, minimum=-2.0, maximum=6.0)
KINDS = pytest.mark.parametrize("metric", [BINARY, COUNT, REAL], ids=lambda metric: str(metric.kind))


@st.composite
def real_metrics(draw: st.DrawFn) -> Metric:
    """Real-valued metrics with ordinary and extreme ranges."""
    if draw(st.booleans()):
        low, high = draw(st.sampled_from([(0.0, 1e-100), (-1e100, 1e100), (9e99, 1e100), (1e9, 1e9 + 0.5)]))
    else:
        low = draw(st.floats(-1e6, 1e6))
        high = low + draw(st.floats(1e-3, 1e6))
    return Metric(name="x", kind=MetricKind.REAL, minimum=low, maximum=high)


@given(metric=real_metrics(), part=st.floats(0, 1))
def test_a_real_value_is_kept_to_a_quantum(metric: Metric, part: float) -> None:
    """A value and the value of its quanta differ by at most one quantum, plus rounding."""
    value = min(metric.minimum + part * (metric.maximum - metric.minimum), metric.maximum)
    quanta = metric.quantise(value)
    rounding = 4 * math.ulp(max(abs(metric.minimum), abs(metric.maximum)))
    assert 0 <= quanta <= N_STEPS
    assert abs(metric.to_value(quanta) - value) <= metric.quantum + rounding


@given(metric=real_metrics())
def test_the_ends_of_the_range_are_the_ends_of_the_quanta(metric: Metric) -> None:
    """The minimum is 0 quanta, and the maximum 2^40."""
    assert (metric.quantise(metric.minimum), metric.quantise(metric.maximum)) == (0, N_STEPS)


@given(metric=real_metrics(), parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_quanta_keep_the_order_of_values(metric: Metric, parts: tuple[float, float]) -> None:
    """A larger value never has fewer quanta."""
    span = metric.maximum - metric.minimum
    low, high = sorted(min(metric.minimum + part * span, metric.maximum) for part in parts)
    assert metric.quantise(low) <= metric.quantise(high)


@given(count=st.integers(0, 1000))
def test_whole_numbers_stand_for_themselves(count: int) -> None:
    """A count is its own number of quanta, and converts back unchanged."""
    assert COUNT.quantise(float(count)) == count
    assert COUNT.quantise(count) == count
    assert COUNT.to_value(count) == count


@KINDS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [False, True])
def test_a_value_that_is_no_number_is_refused(metric: Metric, value: float, *, clip: bool) -> None:
    """NaN and infinities are refused, even if values are clipped."""
    lenient = Metric(name="x", kind=metric.kind, minimum=metric.minimum, maximum=metric.maximum, clip=clip)
    with pytest.raises(OutcomeValueError, match="must be finite") as caught:
        lenient.quantise(value)
    assert caught.value.metric == "x"


@KINDS
@pytest.mark.parametrize("value", [1e308, -1e308, 1e6, -3.0])
def test_a_value_outside_the_range_is_refused(metric: Metric, value: float) -> None:
    """A value outside the declared range is refused, with the value and the range in the message."""
    with pytest.raises(OutcomeValueError) as caught:
        metric.quantise(value)
    assert str(caught.value) == (
        f"{value!r} is not a value of metric {metric.name!r}: "
        f"it must be in [{metric.minimum:g}, {metric.maximum:g}]"
    )


@pytest.mark.parametrize("excess", [1e308, 6.000001, math.nextafter(6.0, 7.0)])
def test_clip_moves_a_value_to_the_nearest_end(excess: float) -> None:
    """A metric that clips moves values beyond its range to the nearest end."""
    metric = Metric(name="delta", kind=MetricKind.REAL, minimum=-2.0, maximum=6.0, clip=True)
    assert metric.quantise(excess) == N_STEPS
    assert metric.quantise(4.0 - excess) == 0


@pytest.mark.parametrize(
    "tiny", [-0.0, 5e-324, -5e-324, sys.float_info.min / 2, -sys.float_info.min / 2], ids=repr
)
@pytest.mark.parametrize("kind", list(MetricKind))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_negative_zero_and_subnormals_are_zero(tiny: float, kind: MetricKind, sign: float) -> None:
    """-0.0 and subnormals of either sign count as 0, at either end of a range."""
    is_below = sign < 0 and kind is MetricKind.REAL
    metric = Metric(name="x", kind=kind, minimum=-1.0 if is_below else 0.0, maximum=0.0 if is_below else 1.0)
    quanta = metric.quantise(tiny)
    assert quanta == metric.quantise(0.0)
    assert math.copysign(1, metric.to_value(quanta)) == 1
    assert metric.to_value(quanta) == 0.0


@pytest.mark.parametrize("value", [0.5, 1e-9, math.nextafter(1.0, 0.0)])
def test_a_yes_or_no_is_nothing_in_between(value: float) -> None:
    """A binary metric accepts only 0 and 1, and the error gives this rule."""
    assert (BINARY.quantise(0.0), BINARY.quantise(1.0)) == (0, 1)
    with pytest.raises(OutcomeValueError, match="must be 0 or 1"):
        BINARY.quantise(value)


@pytest.mark.parametrize("value", [0.5, 999.999, 1e-9])
def test_a_count_is_whole(value: float) -> None:
    """A count accepts only whole numbers, and the error gives this rule."""
    with pytest.raises(OutcomeValueError, match="must be a whole number"):
        COUNT.quantise(value)


def test_squares_of_a_full_epoch_of_counts_fit_in_63_bits() -> None:
    """Four million outcomes of the largest count have a sum of squares below 2^63."""
    assert MAX_EPOCH_DECISIONS * LARGEST_COUNT**2 < 2**63


@given(metric=real_metrics(), part=st.floats(0, 1), nearby=st.integers(-3, 3))
def test_quanta_round_to_those_of_an_older_version(metric: Metric, part: float, nearby: int) -> None:
    """Rounding quanta to range / 2^20 equals rounding the value itself, even next to midpoints."""
    span = metric.maximum - metric.minimum
    middle = metric.minimum + (math.floor(part * (2**20 - 1)) + 0.5) * (span / 2**20)
    value = middle
    for _ in range(abs(nearby)):
        value = math.nextafter(value, math.copysign(math.inf, nearby))
    for each in (min(max(value, metric.minimum), metric.maximum), metric.minimum + part * span):
        if metric.minimum <= each <= metric.maximum:
            expected = round((each - metric.minimum) / (span / 2**20))
            assert round(Fraction(metric.quantise(each), 2**20)) == expected


@pytest.mark.parametrize(
    ("metric", "prior"),
    [
        (BINARY, BetaPrior(1.0, 1.0)),
        (COUNT, GammaPrior(1.0, 1.0)),
        (REAL, NormalInverseGammaPrior(mean=2.0, pseudo_observations=1.0, shape=1.0, scale=(8 / 6) ** 2)),
        (Metric(name="x", prior=BetaPrior(3.0, 7.0), window=timedelta(hours=1)), BetaPrior(3.0, 7.0)),
    ],
)
def test_the_prior_is_the_declared_one_or_the_weak_one_of_the_kind(metric: Metric, prior: object) -> None:
    """A metric without a prior has the weak prior of its kind."""
    assert metric.effective_prior == prior
