"""Which callers restrict a decision: only those who can't serve some arm in service."""

import pytest

from bandit.decision_id import Basis
from server.services.choose.chooser import Choice, Question
from tests.services.support import LAG, Bench

SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}


def ask(bench: Bench, unit: str, eligible: tuple[str, ...] = ()) -> Choice:
    """Return the chooser's answer to a caller who can serve these arms."""
    return bench.chooser.choose_within(bench.experiment, Question(unit=unit, eligible_arms=eligible))


def basis_of(choice: Choice) -> Basis:
    """Return the basis of a decision."""
    return choice.offer.terms.basis


@pytest.mark.parametrize(
    ("out", "eligible"),
    [
        ([], ("a", "b", "c")),
        ([], ("c", "b", "b", "a", "a", "not-declared")),
        (["c"], ("a", "b")),
        (["c"], ("a", "b", "c")),
    ],
    ids=["all", "repeated", "all-in-service", "and-one-out"],
)
def test_naming_every_arm_restricts_nothing(out: list[str], eligible: tuple[str, ...]) -> None:
    """A caller that can serve every arm in service gets the decision of one that names no arms.

    Its unit is counted, and the propensity is the stored share.
    """
    shares = {"a": 0.7, "b": 0.3, "c": 0.0} if out else SHARES
    bench = Bench.of(shares, out=out)
    for number in range(50):
        unit = f"user-{number}"
        named, plain = ask(bench, unit, eligible), ask(bench, unit)
        assert named.offer is plain.offer
        assert basis_of(named) is Basis.POLICY
        assert named.offer.terms.propensity == shares[named.offer.arm.id]
    assert {ask(bench, "", eligible).offer.terms.basis for _ in range(20)} == {Basis.POLICY}
    bench.clock.advance(LAG + 1)
    assert basis_of(ask(bench, "user-1", eligible)) is Basis.UNCONFIRMED


def test_an_arm_without_a_share_still_restricts() -> None:
    """A caller who can't serve an arm in service is restricted even while its share is 0: that may change."""
    bench = Bench.of({"a": 0.6, "b": 0.4, "c": 0.0})
    choice = ask(bench, "user-1", ("a", "b"))
    assert basis_of(choice) is Basis.RESTRICTED
    assert choice.offer.arm.id == ask(bench, "user-1").offer.arm.id
