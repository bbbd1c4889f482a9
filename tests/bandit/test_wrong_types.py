"""A value of a wrong type is named where it comes into the library, before it means something else."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bandit import (
    Arm,
    Direction,
    EpsilonGreedy,
    Experiment,
    Limits,
    Metric,
    MetricKind,
    Picker,
    StaticSplit,
    require_valid,
    unit_hash,
)

SALT = bytes(16)


def experiment(**changes: Any) -> Experiment:
    """Return a valid experiment but for the changes."""
    declared: dict[str, Any] = {
        "name": "ranker",
        "arms": (Arm(id="v1"),),
        "champion": "v1",
        "metrics": (Metric(name="click"),),
        "reward_metric": "click",
        "salt": SALT,
    }
    return Experiment(**declared | changes)


WRONG: list[tuple[Callable[..., object], tuple[Any, ...], str]] = [
    (unit_hash, ("x" * 16, "u"), "salt must be bytes, got 'xxxxxxxxxxxxxxxx' (str)"),
    (unit_hash, (SALT, 42), "unit must be a str, got 42 (int)"),
    (unit_hash, (SALT, b"user-1"), "unit must be a str, got b'user-1' (bytes)"),
    (Picker, ("ab", [0.5, 0.5]), "arm_ids must be a sequence of arm ids, got 'ab' (str)"),
    (Picker, ([1, 2], [0.5, 0.5]), "an arm id must be a str, got 1 (int)"),
    (Picker, (["a", "b"], None), "shares must be a sequence of numbers, got None (NoneType)"),
    (Picker, (["a", "b"], {"a": 0.5, "b": 0.5}), "shares must be a sequence of numbers, in the order"),
    (require_valid, ("ranker",), "experiment must be an Experiment, got 'ranker' (str)"),
    (require_valid, (experiment(name=5),), "name must be a str, got 5 (int)"),
    (require_valid, (experiment(salt="x" * 16),), "salt must be bytes, got"),
    (require_valid, (experiment(arms=("v1",)),), "arms[0] must be an Arm, got 'v1' (str)"),
    (require_valid, (experiment(arms=(Arm(id=1),)),), "arms[0].id must be a str, got 1 (int)"),  # type: ignore[arg-type]
    (require_valid, (experiment(policy="thompson_sampling"),), "policy must be a policy, such as"),
    (require_valid, (experiment(half_life=7),), "half_life must be a timedelta or None, got 7 (int)"),
    (
        require_valid,
        (experiment(metrics=(Metric(name="click", window=5),)),),  # type: ignore[arg-type]
        "metrics[0].window must be a timedelta or None, got 5 (int)",
    ),
    (lambda kind: Metric(name="m", kind=kind), ("reel",), "kind must be one of binary, real, count, got"),
    (lambda share: Limits(minimum_share=share), ("0.1",), "minimum_share must be a number, got '0.1' (str)"),
    (
        lambda shares: Limits(minimum_shares=shares),
        ({"v1": "0.2"},),
        "minimum_shares[\"v1\"] must be a number, got '0.2' (str)",
    ),
    (EpsilonGreedy, ("0.1",), "epsilon must be a number, got '0.1' (str)"),
    (StaticSplit, (("90", "10"),), "weights[0] must be a number, got '90' (str)"),
]


@pytest.mark.parametrize(("call", "arguments", "text"), WRONG)
def test_wrong_types_are_named(call: Callable[..., object], arguments: tuple[Any, ...], text: str) -> None:
    """The error names the argument, its value, its type and what is wanted."""
    with pytest.raises(TypeError, match=re.escape(text)):
        call(*arguments)


def test_a_kind_may_be_given_by_its_value() -> None:
    """A str that equals a kind is that kind: real values count in steps and not as whole numbers."""
    metric = Metric(name="spend", kind="real", maximum=4.0, direction="minimize")  # type: ignore[arg-type]
    assert metric == Metric(name="spend", kind=MetricKind.REAL, maximum=4.0, direction=Direction.MINIMIZE)
    assert metric.is_real
    assert metric.quantise(1.0) > 1


def test_numbers_of_numpy_are_numbers() -> None:
    """Shares, limits and weights may be numpy's."""
    half = np.float32(0.5)
    assert Picker(["a", "b"], np.array([0.5, 0.5])).shares == (0.5, 0.5)
    assert Limits(minimum_share=np.float64(0.25)).minimum_share == 0.25
    assert StaticSplit((half, half)).fixed_shares(2).tolist() == [0.5, 0.5]  # type: ignore[arg-type]
    require_valid(experiment(metrics=(Metric(name="click", kind=MetricKind.REAL, maximum=np.float64(5)),)))
