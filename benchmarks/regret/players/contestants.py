"""Contestants: policies with floors and a half-life, and their notation on the command line.

    NAME[:VALUE][:OPTION=VALUE]...

    thompson                           Thompson sampling
    epsilon-greedy:0.05:decay=1000     explores 5 % (default 10 %), and half of that after 1,000 observations
    uniform                            equal shares
    split:90/10                        fixed shares, champion first, then the other arms in their order

Each takes the options `floor=0.05` (of every arm), `champion-floor=0.2` and `half-life=5000` (rounds).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from bandit.limits import InfeasibleLimitsError, Limits, draws_above_floors
from bandit.policies import EpsilonGreedy, StaticSplit, ThompsonSampling
from bandit.posteriors.batches import FloatArray, PosteriorBatch, repeated
from benchmarks.regret.players.beliefs import IntArray
from benchmarks.regret.problems.problem import Problem, ProblemError

KnownPolicy: TypeAlias = ThompsonSampling | EpsilonGreedy | StaticSplit

NAMES: Final = ("thompson", "epsilon-greedy", "uniform", "split")
_OPTIONS: Final = ("decay", "floor", "champion-floor", "half-life")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A policy of this library with its floors and half-life.

    Attributes:
        label: Its text on the command line.
        policy: The policy that chooses.
        floor: Minimum share of every arm.
        champion_floor: Minimum share of the champion; None: `floor`.
        half_life: Rounds after which an outcome counts half; None: outcomes keep their weight.
    """

    label: str
    policy: KnownPolicy
    floor: float = 0.0
    champion_floor: float | None = None
    half_life: float | None = None

    @property
    def learns(self) -> bool:
        """True if its choices depend on outcomes."""
        return not isinstance(self.policy, StaticSplit)

    def floors(self, problem: Problem) -> list[float]:
        """Return the minimum share of each arm."""
        limits = self.limits(problem)
        return [limits.floor_of(arm_id(arm)) for arm in range(problem.n_arms)]

    def limits(self, problem: Problem) -> Limits:
        """Return its floors as an experiment declares them.

        Raises:
            ProblemError: No shares satisfy these floors.
        """
        reserved = {} if self.champion_floor is None else {arm_id(problem.champion): self.champion_floor}
        try:
            limits = Limits(minimum_share=self.floor, minimum_shares=reserved)
            limits.require_feasible(arm_id(arm) for arm in range(problem.n_arms))
        except InfeasibleLimitsError as error:
            raise ProblemError("floor", f"is too high in {self.label!r}: {error}") from error
        except ValueError as error:
            raise ProblemError("floor", f"is invalid in {self.label!r}: {error}") from error
        return limits

    def fixed_shares(self, problem: Problem) -> list[float] | None:
        """Return the shares of a contestant that does not learn, floors included; None if it learns."""
        if not isinstance(self.policy, StaticSplit):
            return None
        weights = self.policy.weights or (1.0,) * problem.n_arms
        floors = self.floors(problem)
        rest = 1 - math.fsum(floors)
        return [f + rest * weight / math.fsum(weights) for f, weight in zip(floors, weights, strict=True)]

    def draw(
        self,
        posteriors: PosteriorBatch,
        n_rounds: int,
        floors: FloatArray | None,
        rng: np.random.Generator,
        n_observations: FloatArray,
    ) -> IntArray:
        """Draw arms for `n_rounds` rounds with the same posteriors, shape (n_rounds, n_runs)."""
        draws = self.policy.draw(repeated(posteriors, n_rounds), rng, n_observations=n_observations)
        return draws if floors is None else draws_above_floors(draws, floors, rng)


def arm_id(arm: int) -> str:
    """Return an arm's id from its index.

    >>> arm_id(0)
    'arm-0'
    """
    return f"arm-{arm}"


def parse_contestant(text: str, problem: Problem, defaults: Contestant | None = None) -> Contestant:
    """Parse a contestant; options that the text does not set are taken from `defaults`.

    Raises:
        ProblemError: The text is not a contestant, or one that can't play this problem.
    """
    name, *fields = text.split(":")
    values = [field for field in fields if "=" not in field]
    options = _options(text, [field for field in fields if "=" in field])
    if len(values) > 1:
        raise _wrong(text, f"must have at most one value, got {len(values)}")
    value = values[0] if values else None
    if "decay" in options and name != "epsilon-greedy":
        raise _wrong(text, "has the option decay, which only epsilon-greedy takes")
    shared = defaults or Contestant(label="", policy=ThompsonSampling())
    contestant = replace(
        shared,
        label=text,
        policy=_policy(name, value, options, text, problem),
        floor=options.get("floor", shared.floor),
        champion_floor=options.get("champion-floor", shared.champion_floor),
        half_life=options.get("half-life", shared.half_life),
    )
    if contestant.half_life is not None and not contestant.half_life > 0:
        raise _wrong(text, f"must have a positive half-life, got {contestant.half_life:g}")
    contestant.limits(problem)
    return contestant


def _policy(
    name: str, value: str | None, options: Mapping[str, float], text: str, problem: Problem
) -> KnownPolicy:
    if name in {"thompson", "uniform"} and value is not None:
        raise _wrong(text, f"has the value {value!r}, but {name} takes none")
    match name:
        case "thompson":
            return ThompsonSampling()
        case "uniform":
            return StaticSplit()
        case "epsilon-greedy":
            epsilon = EpsilonGreedy().epsilon if value is None else _number(text, value)
            try:
                return EpsilonGreedy(epsilon=epsilon, decay_observations=options.get("decay"))
            except ValueError as error:
                raise _wrong(text, f"is out of range: {error}") from error
        case "split":
            return StaticSplit(_split_weights(text, value, problem))
        case _:
            raise _wrong(text, f"is not a policy; use {', '.join(NAMES)} or another library's: see --help")


def _split_weights(text: str, value: str | None, problem: Problem) -> tuple[float, ...]:
    """Return the weights in the order of the arms; `value` has the champion's first."""
    numbers = [_number(text, part) for part in (value or "").split("/") if part]
    if len(numbers) != problem.n_arms:
        raise _wrong(text, f"must have one weight for each of the {problem.n_arms} arms, got {len(numbers)}")
    if not all(number >= 0 for number in numbers) or not any(numbers):
        raise _wrong(text, "must have weights that are not negative and not all 0")
    champions, *others = numbers
    return (*others[: problem.champion], champions, *others[problem.champion :])


def _options(text: str, fields: list[str]) -> dict[str, float]:
    options = {}
    for field in fields:
        name, _, number = field.partition("=")
        if name not in _OPTIONS:
            raise _wrong(text, f"has an unknown option {name!r}; use {', '.join(_OPTIONS)}")
        options[name] = _number(text, number)
    return options


def _number(text: str, part: str) -> float:
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(text, f"must have a number in place of {part!r}")
    return number


def _wrong(text: str, rule: str) -> ProblemError:
    return ProblemError("policies", f"{text!r} {rule}")
