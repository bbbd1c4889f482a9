"""Contestants: a policy with its floors and half-life, written as a person would on the command line.

    NAME[:VALUE][:OPTION=VALUE]...

    thompson                           Thompson sampling
    epsilon-greedy:0.05:decay=1000     explores 5 %, half of that after 1,000 observations; 0.1 if not said
    uniform                            equal shares
    split:90/10                        fixed shares, the champion's first, then the others' in their order

with `floor=0.05` (of every arm), `champion-floor=0.2` and `half-life=5000` (rounds) for each of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bandit.limits import InfeasibleLimitsError, Limits, draws_above_floors
from bandit.policies import EpsilonGreedy, LearningPolicy, StaticSplit, ThompsonSampling
from bandit.posteriors.batches import FloatArray, PosteriorBatch, repeated
from benchmarks.regret.players.beliefs import IntArray
from benchmarks.regret.problems.problem import Problem, ProblemError

NAMES: Final = ("thompson", "epsilon-greedy", "uniform", "split")
_OPTIONS: Final = ("decay", "floor", "champion-floor", "half-life")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A policy as it takes part.

    Attributes:
        label: How it was written.
        policy: What chooses.
        floor: The least share of every arm.
        champion_floor: That of the champion; None: the same.
        half_life: After how many rounds an outcome weighs half; None: never.
    """

    label: str
    policy: LearningPolicy | StaticSplit
    floor: float = 0.0
    champion_floor: float | None = None
    half_life: float | None = None

    @property
    def learns(self) -> bool:
        """Whether its choices depend on outcomes."""
        return not isinstance(self.policy, StaticSplit)

    def floors(self, problem: Problem) -> list[float]:
        """The least share of each arm."""
        limits = self.limits(problem)
        return [limits.floor_of(arm_id(arm)) for arm in range(problem.n_arms)]

    def limits(self, problem: Problem) -> Limits:
        """Its floors as an experiment declares them.

        Raises:
            ProblemError: no shares can have these floors.
        """
        reserved = {} if self.champion_floor is None else {arm_id(problem.champion): self.champion_floor}
        try:
            limits = Limits(minimum_share=self.floor, minimum_shares=reserved)
            limits.require_feasible(arm_id(arm) for arm in range(problem.n_arms))
        except InfeasibleLimitsError as error:
            raise ProblemError("floor", f"asks for too much in {self.label!r}: {error}") from error
        except ValueError as error:
            raise ProblemError("floor", f"can't be used in {self.label!r}: {error}") from error
        return limits

    def fixed_shares(self, problem: Problem) -> list[float] | None:
        """The shares of a contestant that does not learn, floors included; None for one that learns."""
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
        """Arms of so many rounds on the same posteriors, shape (n_rounds, n_runs), by the policy's `draw`."""
        draws = self.policy.draw(repeated(posteriors, n_rounds), rng, n_observations=n_observations)
        return draws if floors is None else draws_above_floors(draws, floors, rng)


def arm_id(arm: int) -> str:
    """An arm's id, from its index.

    >>> arm_id(0)
    'arm-0'
    """
    return f"arm-{arm}"


def parse_contestant(text: str, problem: Problem, defaults: Contestant | None = None) -> Contestant:
    """Reads a contestant; what it does not say is taken from `defaults`.

    Raises:
        ProblemError: the text is no contestant, or not one for this problem.
    """
    name, *fields = text.split(":")
    values = [field for field in fields if "=" not in field]
    options = _options(text, [field for field in fields if "=" in field])
    if len(values) > 1:
        raise _wrong(text, f"has {len(values)} values, and a policy takes one at most")
    value = values[0] if values else None
    if "decay" in options and name != "epsilon-greedy":
        raise _wrong(text, "has a decay, which only epsilon-greedy takes")
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
        raise _wrong(text, "has a half-life that is not positive")
    contestant.limits(problem)
    return contestant


def _policy(
    name: str, value: str | None, options: Mapping[str, float], text: str, problem: Problem
) -> LearningPolicy | StaticSplit:
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
            raise _wrong(text, f"names no policy; there are {', '.join(NAMES)} and those of other libraries")


def _split_weights(text: str, value: str | None, problem: Problem) -> tuple[float, ...]:
    """Weights in the order of arms, from those that name the champion first."""
    numbers = [_number(text, part) for part in (value or "").split("/") if part]
    if len(numbers) != problem.n_arms:
        raise _wrong(
            text, f"must give as many weights as there are arms ({problem.n_arms}), got {len(numbers)}"
        )
    if not all(number >= 0 for number in numbers) or not any(numbers):
        raise _wrong(text, "must give weights that are not negative and not all 0")
    champions, *others = numbers
    return (*others[: problem.champion], champions, *others[problem.champion :])


def _options(text: str, fields: list[str]) -> dict[str, float]:
    options = {}
    for field in fields:
        name, _, number = field.partition("=")
        if name not in _OPTIONS:
            raise _wrong(text, f"has an option {name!r}; there are {', '.join(_OPTIONS)}")
        options[name] = _number(text, number)
    return options


def _number(text: str, part: str) -> float:
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(text, f"has {part!r} where a number has to be")
    return number


def _wrong(text: str, rule: str) -> ProblemError:
    return ProblemError("policies", f"{text!r} {rule}")
