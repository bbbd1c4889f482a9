"""P(best) and expected losses, against references that share no code with them."""

import math
from collections.abc import Callable
from itertools import pairwise

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bandit.posteriors import (
    BetaPosterior,
    GammaPosterior,
    NormalPosterior,
    Posterior,
    StudentTPosterior,
    best_arm,
)
from bandit.posteriors.best_arm import (
    QuadratureError,
    best_arm_probabilities,
    best_arm_summary,
    value_remaining_probability,
)
from bandit.posteriors.curves.beta import BetaCurves
from bandit.posteriors.curves.panels import N_NODES, Panels
from tests.bandit.posteriors.best_arm_reference import (
    FAMILY_TO_EXAMPLE,
    TOLERANCE,
    Reference,
    random_posterior,
)


@pytest.mark.parametrize("family", ["beta", "gamma", "normal", "student"])
@pytest.mark.parametrize("seed", range(8))
def test_random_arms_agree_with_the_trapezoid_rule(family: str, seed: int) -> None:
    """Probabilities, losses and value remaining of random arms equal those of the fine grid."""
    rng = np.random.default_rng([seed, len(family)])
    arms = [random_posterior(family, rng) for _ in range(int(rng.integers(2, 7)))]
    reference = Reference(arms)
    summary = best_arm_summary(arms)
    assert summary.probabilities == pytest.approx(reference.probabilities(), abs=TOLERANCE)
    # In units of the widest arm's interval.
    spread = max(high - low for low, high in (arm.interval(0.9) for arm in arms))
    assert summary.expected_losses == pytest.approx(reference.losses(), abs=TOLERANCE * spread)
    assert best_arm_probabilities(arms).tolist() == summary.probabilities.tolist()
    if family in {"beta", "gamma"}:
        for arm, margin in ((0, 0.0), (1, 0.05), (0, 1.0)):
            remaining = value_remaining_probability(arms, margin, arm=arm)
            assert remaining == pytest.approx(reference.remaining(arms, arm, margin), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([(31, 971), (37, 965)], [None, 0.771923015290]),
        ([(1, 1e7), (2, 1e7)], [0.2500000125, None]),
        ([(2, 1e7), (1, 1e7)], [None, 0.2500000125]),
        ([(51, 951), (63, 939), (59, 943)], [0.064623537632, 0.607635213833, 0.327741248535]),
    ],
)
def test_published_references(arms: list[tuple[float, float]], expected: list[float | None]) -> None:
    """The worked examples of the design are reproduced to all their digits."""
    probabilities = best_arm_probabilities([BetaPosterior(*arm) for arm in arms])
    for probability, value in zip(probabilities, expected, strict=True):
        assert value is None or probability == pytest.approx(
            value, abs=1e-12 if value != 0.2500000125 else 1e-10
        )


def exact_beta_win(a: int, b: int, c: int, d: int) -> float:
    """Return P(Beta(c, d) > Beta(a, b)) for integer c, a finite sum of positive terms (Miller 2015)."""
    with mpmath.workdps(40):
        terms = (
            mpmath.beta(a + i, b + d) / ((d + i) * mpmath.beta(1 + i, d) * mpmath.beta(a, b))
            for i in range(c)
        )
        return float(mpmath.fsum(terms))


@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [
        (1, 1, 1, 1),
        (1, 3, 2, 1),
        (40, 10**7, 60, 10**7),
        (3, 10**7, 1, 2),
        (10**7, 10**7, 1, 1),
        (10**7, 3, 40, 2),
        (999_900, 100, 50, 3),
        (500_000, 9_500_000, 120, 2_250),
    ],
)
def test_two_beta_arms_agree_with_the_finite_sum(a: int, b: int, c: int, d: int) -> None:
    """Two Beta arms of any widths, up to ten million counts, agree with the closed form."""
    expected = exact_beta_win(a, b, c, d)
    probabilities = best_arm_probabilities([BetaPosterior(a, b), BetaPosterior(c, d)])
    assert probabilities[1] == pytest.approx(expected, abs=1e-11)
    mirrored = best_arm_probabilities([BetaPosterior(b, a), BetaPosterior(d, c)], maximize=False)
    assert mirrored[1] == pytest.approx(expected, abs=1e-11)


@given(
    gap=st.floats(-6, 6),
    log_ratio=st.floats(-7, 7),
    place=st.sampled_from([0.0, 1.0, -1e6]),
    power=st.integers(-9, 9),
)
@settings(max_examples=200)
def test_two_normal_arms_agree_with_phi(gap: float, log_ratio: float, place: float, power: int) -> None:
    """For two Normal arms P is Phi(gap), whatever the ratio of their widths and the scale of both."""
    first, second = 10.0**power, 10.0 ** (power + log_ratio)
    spread = math.hypot(first, second)
    # The distance of the arms as doubles, so that the reference sees the same arms.
    mean = place * 10.0**power
    arms = [NormalPosterior(mean, first), NormalPosterior(mean + gap * spread, second)]
    exact_gap = (arms[1].mean - arms[0].mean) / spread
    expected = float(special.ndtr(exact_gap))
    assert best_arm_probabilities(arms)[1] == pytest.approx(expected, abs=1e-11)
    loss = spread * (math.exp(-(exact_gap**2) / 2) / math.sqrt(2 * math.pi) + exact_gap * expected)
    assert best_arm_summary(arms).expected_losses[0] == pytest.approx(loss, abs=1e-10 * spread)


@given(a=st.floats(0, 7), b=st.floats(0, 7), log_lift=st.floats(-1, 1), is_max=st.booleans())
@settings(max_examples=200)
def test_two_gamma_arms_agree_with_the_beta_function(
    a: float, b: float, log_lift: float, *, is_max: bool
) -> None:
    """For two Gamma arms P(first > second) is an incomplete beta function of their rates."""
    shapes, rates = (10**a, 10**b), (10**a, 10**b * 2**log_lift)
    arms = [GammaPosterior(shape, rate) for shape, rate in zip(shapes, rates, strict=True)]
    # y / (x + y) of standard gammas is Beta; x / rate_x > y / rate_y bounds it. Shapes are at
    # least 1: below that, SciPy's betainc itself errs by up to 1e-9.
    bound = rates[1] / (rates[0] + rates[1])
    first_is_larger = float(special.betainc(shapes[1], shapes[0], bound))
    expected = first_is_larger if is_max else 1 - first_is_larger
    assert best_arm_probabilities(arms, maximize=is_max)[0] == pytest.approx(expected, abs=TOLERANCE)


@given(gap=st.floats(-1e3, 1e3), log_ratio=st.floats(-6, 6))
def test_two_cauchy_arms_agree_with_the_arctangent(gap: float, log_ratio: float) -> None:
    """For two Student-t arms with one degree of freedom, P is an arctangent: their difference is Cauchy."""
    scale = 10**log_ratio
    arms = [StudentTPosterior(0, 1, 1), StudentTPosterior(gap, scale, 1)]
    expected = 0.5 + math.atan(gap / (1 + scale)) / math.pi
    assert best_arm_probabilities(arms)[1] == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("maximize", [True, False])
def test_three_arms_agree_with_thirty_digits(maximize: bool) -> None:  # noqa: FBT001
    """Three skewed Beta arms agree with adaptive quadrature in arbitrary precision."""
    parameters = [(2, 30), (3, 40), (0.5, 9)]
    best: Callable[..., float] = mpmath.betainc

    def integrand(x: float) -> float:
        a, b = parameters[2]
        ranges = (0, x) if maximize else (x, 1)
        others = math.prod(best(*other, *ranges, regularized=True) for other in parameters[:2])
        return float(x ** (a - 1) * (1 - x) ** (b - 1) / mpmath.beta(a, b) * others)

    cuts = [0, 1e-6, 1e-3, 0.02, 0.1, 0.3, 1]
    expected = sum(
        mpmath.quad(
            lambda root: 2 * root * integrand(root**2), [math.sqrt(low), math.sqrt(high)], maxdegree=5
        )
        for low, high in pairwise(cuts)
    )
    arms = [BetaPosterior(*pair) for pair in parameters]
    assert best_arm_probabilities(arms, maximize=maximize)[2] == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize("n_arms", [1, 2, 3, 10, 137])
@pytest.mark.parametrize("family", FAMILY_TO_EXAMPLE)
def test_equal_arms_share_equally(family: str, n_arms: int) -> None:
    """Equal posteriors get 1/K each, to twelve digits, in every family and both directions."""
    for maximize in (True, False):
        probabilities = best_arm_probabilities([FAMILY_TO_EXAMPLE[family]] * n_arms, maximize=maximize)
        assert probabilities == pytest.approx(np.full(n_arms, 1 / n_arms), abs=1e-12)


def test_a_thousand_arms_share_equally() -> None:
    """A thousand equal arms get a thousandth each, to twelve digits."""
    probabilities = best_arm_probabilities([BetaPosterior(31, 971)] * 1000)
    assert probabilities == pytest.approx(np.full(1000, 1e-3), abs=1e-12)


def test_expected_losses_of_equal_arms() -> None:
    """Losses of equal arms equal those from the textbook's order statistics, in both directions."""
    uniform = [BetaPosterior(1, 1)] * 9
    exponential = [GammaPosterior(1, 2)] * 9
    harmonic = sum(1 / k for k in range(1, 10))
    for arms, maximize, loss in (
        (uniform, True, 0.9 - 0.5),
        (uniform, False, 0.5 - 0.1),
        (exponential, True, (harmonic - 1) / 2),
        (exponential, False, (1 - 1 / 9) / 2),
        ([NormalPosterior(7, 3)] * 2, False, 3 / math.sqrt(math.pi)),
    ):
        losses = best_arm_summary(arms, maximize=maximize).expected_losses
        assert losses == pytest.approx(np.full(len(arms), loss), abs=1e-11)


def test_losses_without_an_expectation_are_infinite() -> None:
    """With a Student-t arm with df <= 1 every expected loss is infinite; a single arm loses nothing."""
    heavy = StudentTPosterior(0, 1, 1)
    assert best_arm_summary([heavy, NormalPosterior(0, 1)]).expected_losses.tolist() == [math.inf, math.inf]
    assert best_arm_summary([heavy]).expected_losses.tolist() == [0.0]


def test_the_heavy_tail_counts_in_losses() -> None:
    """Two Student-t arms with df 2 lose pi / (2 sqrt 2) scales, including the part beyond any quantile."""
    losses = best_arm_summary([StudentTPosterior(3, 2, 2.0)] * 2).expected_losses
    # E[max] of two is the integral of F (1 - F), for df 2 a constant: 1/4 of the integral of 2 / (2 + t**2).
    assert losses == pytest.approx(np.full(2, 2 * math.pi / (2 * math.sqrt(2))), abs=1e-8)


@given(
    data=st.data(), family=st.sampled_from(["beta", "gamma", "normal", "student"]), seed=st.integers(0, 999)
)
@settings(max_examples=60)
def test_arms_are_treated_alike(data: st.DataObject, family: str, seed: int) -> None:
    """Permuting arms permutes probabilities and losses."""
    rng = np.random.default_rng(seed)
    arms = [random_posterior(family, rng) for _ in range(5)]
    order = data.draw(st.permutations(range(5)))
    straight, permuted = best_arm_summary(arms), best_arm_summary([arms[index] for index in order])
    assert permuted.probabilities == pytest.approx(straight.probabilities[order], abs=1e-12)
    assert permuted.expected_losses == pytest.approx(straight.expected_losses[order], rel=1e-9, abs=1e-12)


@given(seed=st.integers(0, 9_999))
@settings(max_examples=100)
def test_the_smallest_of_negated_arms_is_the_largest(seed: int) -> None:
    """Minimising mirrored arms is maximising the arms: Beta by swapping, Normal and Student-t by negating."""
    rng = np.random.default_rng(seed)
    betas = [random_posterior("beta", rng) for _ in range(4)]
    flipped = [BetaPosterior(arm.beta, arm.alpha) for arm in betas if isinstance(arm, BetaPosterior)]
    up, down = best_arm_summary(betas), best_arm_summary(flipped, maximize=False)
    assert down.probabilities == pytest.approx(up.probabilities, abs=1e-12)
    assert down.expected_losses == pytest.approx(up.expected_losses, rel=1e-9, abs=1e-12)
    mixed: list[NormalPosterior | StudentTPosterior] = [
        NormalPosterior(0.1, 0.3),
        StudentTPosterior(0.2, 0.2, 4),
        NormalPosterior(rng.normal(), 0.1),
    ]
    negated: list[Posterior] = [
        NormalPosterior(-arm.mean, arm.sd)
        if isinstance(arm, NormalPosterior)
        else StudentTPosterior(-arm.mean, arm.scale, arm.df)
        for arm in mixed
    ]
    least = best_arm_probabilities(negated, maximize=False)
    assert least == pytest.approx(best_arm_probabilities(mixed), abs=1e-12)


def test_minimising_gamma_arms_agrees_with_the_trapezoid_rule() -> None:
    """For the arm with the fewest counts, probabilities and losses equal those of the fine grid."""
    arms = [GammaPosterior(90, 50), GammaPosterior(9, 5.5), GammaPosterior(0.7, 0.5)]
    grid = Reference(arms)
    above = 1 - grid.below
    others = np.array([np.delete(above, arm, axis=0).prod(axis=0) for arm in range(3)])
    summary = best_arm_summary(arms, maximize=False)
    assert summary.probabilities == pytest.approx(
        (grid.density * others).sum(axis=1) * grid.step, abs=TOLERANCE
    )
    losses = ((above - above.prod(axis=0)) * grid.slope).sum(axis=1) * grid.step
    assert summary.expected_losses == pytest.approx(losses, abs=TOLERANCE)


def test_hopeless_arms_get_nothing() -> None:
    """An arm that another one certainly beats gets exactly 0, and its loss is the difference of means."""
    summary = best_arm_summary([BetaPosterior(10, 99_990), BetaPosterior(50_000, 50_000)])
    assert summary.probabilities.tolist() == [0.0, 1.0]
    assert summary.expected_losses == pytest.approx([0.4999, 0.0], abs=1e-12)


@given(seed=st.integers(0, 9_999), is_max=st.booleans())
@settings(max_examples=200)
def test_extreme_arms_pass_the_check(seed: int, *, is_max: bool) -> None:
    """Parameters from 1e-3 to 1e10 in one comparison neither warn nor fail, and no loss is negative."""
    rng = np.random.default_rng(seed)
    kind: Callable[[float, float], Posterior] = (BetaPosterior, GammaPosterior)[seed % 2]
    arms: list[Posterior] = [
        kind(*(10 ** rng.uniform(-3, 10, 2)).tolist()) for _ in range(int(rng.integers(2, 30)))
    ]
    summary = best_arm_summary(arms, maximize=is_max)
    assert summary.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert (summary.probabilities >= 0).all()
    assert (summary.expected_losses >= 0).all()


@given(seed=st.integers(0, 9_999))
@settings(max_examples=100)
def test_extreme_heavy_tails_pass_the_check(seed: int) -> None:
    """Student-t and Normal arms of any width and df >= 1 neither warn nor fail."""
    rng = np.random.default_rng(seed)
    arms: list[Posterior] = [
        StudentTPosterior(rng.normal(), 10 ** rng.uniform(-6, 3), 1 + 10 ** rng.uniform(-2, 9))
        for _ in range(6)
    ]
    arms += [NormalPosterior(rng.normal(), 10 ** rng.uniform(-6, 3)) for _ in range(2)]
    summary = best_arm_summary(arms, maximize=bool(seed % 2))
    assert summary.probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert (summary.expected_losses >= 0).all()


def test_memory_is_bounded_without_changing_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dividing the panels into the smallest chunks changes nothing beyond rounding."""
    rng = np.random.default_rng(11)
    arms = [random_posterior("beta", rng) for _ in range(40)]
    whole = best_arm_summary(arms)
    monkeypatch.setattr(best_arm, "_CHUNK_ELEMENTS", 1)
    pieces = best_arm_summary(arms)
    assert pieces.probabilities == pytest.approx(whole.probabilities, abs=1e-14)
    assert pieces.expected_losses == pytest.approx(whole.expected_losses, abs=1e-14)


def test_a_wrong_density_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a density does not integrate to 1, the check of the sum raises QuadratureError."""
    right = BetaCurves.density
    wrong = lambda curves, panels, rows: 1.0001 * right(curves, panels, rows)  # noqa: E731
    monkeypatch.setattr(BetaCurves, "density", wrong)
    with pytest.raises(QuadratureError, match=r"2 arms sum to 1\.0"):
        best_arm_probabilities([BetaPosterior(31, 971), BetaPosterior(37, 965)])


def test_panels_integrate_polynomials_exactly() -> None:
    """The rule's partial integrals are exact for polynomials that its nodes determine."""
    panels = Panels(np.array([0.0, 0.5, 2.0]))
    for degree in range(N_NODES):
        density = panels.nodes[np.newaxis, :] ** degree
        up_to, end = panels.cumulative(density, np.array([0.25]))
        expected = 0.25 + panels.nodes ** (degree + 1) / (degree + 1)
        assert up_to[0] == pytest.approx(expected, rel=1e-13)
        assert end == pytest.approx(0.25 + 2.0 ** (degree + 1) / (degree + 1), rel=1e-13)


def test_normal_and_student_may_be_mixed() -> None:
    """Normal and Student-t share a coordinate, and with many degrees of freedom they agree."""
    normal, student = NormalPosterior(0.2, 1.0), StudentTPosterior(0.2, 1.0, 1e12)
    other = NormalPosterior(0.0, 0.7)
    assert best_arm_probabilities([student, other]) == pytest.approx(
        best_arm_probabilities([normal, other]), abs=1e-11
    )


@pytest.mark.parametrize(
    "arms",
    [
        [BetaPosterior(1, 1), GammaPosterior(1, 1)],
        [BetaPosterior(1, 1), NormalPosterior(0, 1)],
        [GammaPosterior(1, 1), StudentTPosterior(0, 1, 3)],
    ],
)
def test_other_families_are_not_comparable(arms: list[Posterior]) -> None:
    """Posteriors of different coordinates are refused."""
    with pytest.raises(ValueError, match="different families"):
        best_arm_probabilities(arms)


def test_no_arm_is_an_error() -> None:
    """An empty list of arms is refused."""
    with pytest.raises(ValueError, match="at least one posterior"):
        best_arm_probabilities([])
