"""Assignment of units: exact proportions, few moves, and the same arm everywhere."""

import json
import math
from hashlib import blake2b
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from bandit import assignment
from bandit.assignment import Picker, arm_key, pick_each, unit_hash

FALSE_ALARM_RATE = 1e-6
SALT = bytes(range(16))


def random_hashes(n_units: int, seed: int) -> list[int]:
    """Return random unit hashes; a generator replaces the keyed hash, for speed."""
    rng = np.random.default_rng(seed)
    hashes: list[int] = rng.integers(0, 2**64, n_units, dtype=np.uint64).tolist()
    return hashes


def chi_square_p_value(observed: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """Return the p-value of Pearson's test; cells of zero share must be empty."""
    expected = shares * observed.sum()
    is_used = expected > 0
    assert not observed[~is_used].any()
    statistic = ((observed - expected)[is_used] ** 2 / expected[is_used]).sum()
    return float(special.chdtrc(np.count_nonzero(is_used) - 1, statistic))


def picked(picker: Picker, hashes: list[int]) -> NDArray[np.int64]:
    """Return the arm's index for each unit."""
    return np.array([picker.pick(unit_hash) for unit_hash in hashes])


def reference_arm(salt: bytes, unit: str, arms: list[str], shares: list[float]) -> str:
    """Return the arm by the algorithm of the module's docstring, implemented independently of the code."""
    unit_bits = int.from_bytes(blake2b(unit.encode("utf-8"), key=salt, digest_size=8).digest(), "little")
    scores = {}
    for arm, share in zip(arms, shares, strict=True):
        if share == 0:
            continue
        digest = blake2b(arm.encode("utf-8"), person=b"bandit-arm", digest_size=8).digest()
        x = (unit_bits ^ int.from_bytes(digest, "little")) * 0xFF51AFD7ED558CCD % 2**64
        x = (x ^ (x >> 32)) * 0xC4CEB9FE1A85EC53 % 2**64
        scores[arm] = -math.log(math.ldexp((x >> 11) | 1, -53)) / share
    return min(scores, key=scores.__getitem__)


def test_shipped_vectors_hold() -> None:
    """The package reproduces every shipped vector bit for bit, and these files never change."""
    vectors = json.loads(resources.files("bandit").joinpath("assignment_vectors.json").read_text("utf-8"))
    for arm, key in vectors["arm_keys"].items():
        assert arm_key(arm) == int(key, 16)
    assert len(vectors["cases"]) == 40
    for case in vectors["cases"]:
        hashed = unit_hash(bytes.fromhex(case["salt"]), case["unit"])
        assert hashed == int(case["unit_hash"], 16)
        picker = Picker(case["arms"], case["shares"])
        assert picker.arm_ids[picker.pick(hashed)] == case["arm"]


def test_vectors_follow_from_the_documented_recipe() -> None:
    """An independent implementation of the documented algorithm agrees with every shipped vector."""
    vectors = json.loads(resources.files("bandit").joinpath("assignment_vectors.json").read_text("utf-8"))
    for case in vectors["cases"]:
        salt = bytes.fromhex(case["salt"])
        assert reference_arm(salt, case["unit"], case["arms"], case["shares"]) == case["arm"]


@given(unit=st.text(max_size=20), n_arms=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_any_unit_follows_the_documented_recipe(unit: str, n_arms: int, seed: int) -> None:
    """For any unit, in any script, the arm is that of the documented algorithm."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(n_arms)).tolist()
    arms = [f"arm-{index}" for index in range(n_arms)]
    picker = Picker(arms, shares)
    assert arms[picker.pick(unit_hash(SALT, unit))] == reference_arm(SALT, unit, arms, shares)


def test_both_routes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop for few arms and numpy's arithmetic for many give every unit the same arm."""
    hashes = random_hashes(5_000, seed=1)
    for n_arms in (2, 3, 7, 8, 40):
        shares = np.random.default_rng(n_arms).dirichlet(np.ones(n_arms)).tolist()
        arms = [f"arm-{index}" for index in range(n_arms)]
        monkeypatch.setattr(assignment, "_VECTOR_FROM_ARMS", 1)
        vectorised = picked(Picker(arms, shares), hashes)
        monkeypatch.setattr(assignment, "_VECTOR_FROM_ARMS", 1000)
        assert (vectorised == picked(Picker(arms, shares), hashes)).all()


@pytest.mark.parametrize("n_units", [0, 1, 7, 8, 255, 256, 257, 700])
def test_many_picks_at_once_are_those_of_one_by_one(n_units: int) -> None:
    """Picked together, units get the arms that they get alone: with few arms, many, and zero shares."""
    rng = np.random.default_rng(n_units)
    hashes = random_hashes(n_units, seed=n_units)
    pickers = []
    for n_arms in rng.integers(1, 40, n_units).tolist():
        shares = rng.dirichlet(np.ones(n_arms)) * (rng.random(n_arms) < 0.7)
        shares = shares / shares.sum() if shares.any() else np.eye(n_arms)[-1]
        pickers.append(Picker([f"arm-{index}" for index in range(n_arms)], shares))
    alone = [picker.pick(hashed) for picker, hashed in zip(pickers, hashes, strict=True)]
    assert pick_each(pickers, hashes) == alone


@pytest.mark.parametrize(
    "shares",
    [
        (0.5, 0.5),
        (0.9, 0.1),
        (0.99, 0.01),
        (0.2, 0.3, 0.5),
        (0.7, 0.05, 0.0, 0.05, 0.2),
        tuple(float(k) / 190 for k in range(20)),
        (0.505,) + (0.005,) * 99,
    ],
)
def test_assignment_is_exactly_proportional(shares: tuple[float, ...]) -> None:
    """Arms get units in proportion to their shares, to within the noise of 200,000 units."""
    picker = Picker([f"arm-{index}" for index in range(len(shares))], shares)
    counts = np.bincount(picked(picker, random_hashes(200_000, seed=2)), minlength=len(shares))
    assert chi_square_p_value(counts, np.array(shares)) > FALSE_ALARM_RATE


def test_real_units_are_proportional_too() -> None:
    """Consecutive unit ids under one salt spread over arms by the shares."""
    picker = Picker(["champion", "a", "b"], [0.9, 0.06, 0.04])
    hashes = [unit_hash(SALT, f"user-{index}") for index in range(100_000)]
    counts = np.bincount(picked(picker, hashes), minlength=3)
    assert chi_square_p_value(counts, np.array(picker.shares)) > FALSE_ALARM_RATE


def test_assignment_is_independent_between_salts() -> None:
    """A unit's arm in one experiment is independent of its arm in another."""
    picker = Picker(["champion", "challenger"], [0.7, 0.3])
    units = [f"user-{index}" for index in range(100_000)]
    first = picked(picker, [unit_hash(SALT, unit) for unit in units])
    second = picked(picker, [unit_hash(bytes(16), unit) for unit in units])
    joint = np.bincount(2 * first + second, minlength=4)
    assert chi_square_p_value(joint, np.outer([0.7, 0.3], [0.7, 0.3]).ravel()) > FALSE_ALARM_RATE


def test_proportions_hold_among_units_of_one_arm() -> None:
    """If the units of one arm may only get the other arms, they spread over those by their shares."""
    shares = [0.4, 0.3, 0.2, 0.1]
    arms = ["a", "b", "c", "d"]
    hashes = random_hashes(200_000, seed=3)
    picker = Picker(arms, shares)
    units_of_a = [hashed for hashed in hashes if picker.pick(hashed) == 0]
    counts = np.bincount(picked(picker.restricted_to({"b", "c", "d"}), units_of_a), minlength=4)
    assert chi_square_p_value(counts, np.array([0, 0.3, 0.2, 0.1]) / 0.6) > FALSE_ALARM_RATE


@pytest.mark.parametrize("n_arms", [2, 3, 5, 12])
def test_few_units_move(n_arms: int) -> None:
    """Between random shares at most 2 TV / (1 + TV) of the units change arm."""
    hashes = random_hashes(20_000, seed=4)
    arms = [f"arm-{index}" for index in range(n_arms)]
    rng = np.random.default_rng(n_arms)
    for _ in range(4):
        before, after = rng.dirichlet(np.full(n_arms, 0.7)), rng.dirichlet(np.full(n_arms, 0.7))
        variation = np.abs(before - after).sum() / 2
        bound = 2 * variation / (1 + variation)
        has_moved = picked(Picker(arms, before), hashes) != picked(Picker(arms, after), hashes)
        # Five standard errors of a share of 20,000 units: fewer than 1e-6 of samples lie beyond.
        tolerance = 5 * math.sqrt(bound * (1 - bound) / len(hashes))
        assert has_moved.mean() <= bound + tolerance
        assert has_moved.mean() >= variation - 5 * math.sqrt(variation * (1 - variation) / len(hashes))


def test_a_growing_arm_only_takes() -> None:
    """When one arm grows at the cost of all others in proportion, no unit moves between the others."""
    hashes = random_hashes(20_000, seed=5)
    arms = ["a", "b", "c", "d"]
    before = picked(Picker(arms, [0.1, 0.3, 0.3, 0.3]), hashes)
    after = picked(Picker(arms, [0.4, 0.2, 0.2, 0.2]), hashes)
    assert (after[before != after] == 0).all()


@given(seed=st.integers(0, 2**32 - 1), n_arms=st.integers(1, 12), hashed=st.integers(0, 2**64 - 1))
def test_the_order_of_arms_does_not_matter(seed: int, n_arms: int, hashed: int) -> None:
    """Every unit gets the same arm in whatever order the arms are listed."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(n_arms))
    order = rng.permutation(n_arms)
    arms = np.array([f"arm-{index}" for index in range(n_arms)])
    picker, shuffled = Picker(arms.tolist(), shares), Picker(arms[order].tolist(), shares[order])
    assert picker.arm_ids[picker.pick(hashed)] == shuffled.arm_ids[shuffled.pick(hashed)]


@given(hashed=st.integers(0, 2**64 - 1), n_dead=st.integers(1, 12), uniform=st.floats(0, 1, exclude_max=True))
def test_an_arm_without_share_is_never_picked(hashed: int, n_dead: int, uniform: float) -> None:
    """No unit and no draw gets an arm whose share is 0."""
    shares = [0.0] * n_dead + [0.5, 0.0, 0.5, 0.0]
    picker = Picker([f"arm-{index}" for index in range(len(shares))], shares)
    assert shares[picker.pick(hashed)] > 0
    assert shares[picker.draw(uniform)] > 0


def test_draw_inverts_the_cumulative_shares() -> None:
    """A draw divides [0, 1) into the arms' shares in their order, without gaps or overlaps."""
    picker = Picker(["a", "b", "c", "d"], [0.25, 0.0, 0.5, 0.25])
    just_below = [math.nextafter(edge, 0) for edge in (0.25, 0.75, 1.0)]
    assert [picker.draw(uniform) for uniform in (0.0, 0.25, 0.75, *just_below)] == [0, 2, 3, 0, 2, 3]


def test_restriction_keeps_indices_and_proportions() -> None:
    """A restricted picker has the same indices, and shares in proportion among the allowed arms."""
    restricted = Picker(["a", "b", "c"], [0.5, 0.3, 0.2]).restricted_to({"b", "c", "stranger"})
    assert restricted.arm_ids == ("a", "b", "c")
    assert restricted.shares == pytest.approx((0.0, 0.6, 0.4))
    with pytest.raises(ValueError, match="none of the allowed arms"):
        Picker(["a", "b"], [1.0, 0.0]).restricted_to({"b"})


@pytest.mark.parametrize(
    ("arms", "shares", "message"),
    [
        ([], [], "at least one arm"),
        (["a", "a"], [0.5, 0.5], "unique"),
        (["a", "b"], [1.0], "2 arms need as many shares, got 1"),
        (["a", "b"], [1.5, -0.5], "not negative"),
        (["a", "b"], [math.nan, 1.0], "finite"),
        (["a", "b"], [0.5, 0.4], "sum to 1, got 0.9"),
        (["a", "b"], [0.0, 0.0], "sum to 1, got 0"),
    ],
)
def test_impossible_shares_are_refused(arms: list[str], shares: list[float], message: str) -> None:
    """Shares that are not probabilities of these arms raise an error that gives the rule."""
    with pytest.raises(ValueError, match=message):
        Picker(arms, shares)


def test_a_salt_has_sixteen_bytes() -> None:
    """A salt of another length is refused: it would be weaker, or a different key, without notice."""
    with pytest.raises(ValueError, match="16 bytes long, got 15"):
        unit_hash(bytes(15), "user-1")
