"""The replay method: what a policy would have earned, from events that a uniform policy logged.

Li, Chu, Langford & Wang 2011, *Unbiased Offline Evaluation of Contextual-bandit-based News Article
Recommendation Algorithms*, algorithm 2. A stream of events, each with an arm drawn uniformly and the reward
that it got. The policy is asked for an arm at each event; if it names the logged arm, the event *counts* and
its reward is shown to the policy; otherwise the event is skipped. As the logged arm is independent of the
policy's, the events that count are distributed as if the policy had served them.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.replay.movielens import Film


class Event(NamedTuple):
    """One logged event.

    Attributes:
        arm: The arm that was shown.
        reward: Its reward, 0 or 1.
    """

    arm: str
    reward: int


def resampled(films: Sequence[Film], n_events: int, seed: int) -> Iterator[Event]:
    """Yield events as a uniform policy would log them: a random arm, then any of its ratings.

    MovieLens's own stream can't be used, since people choose what they rate: its arms are not drawn
    uniformly.
    """
    generator = random.Random(seed)
    for _ in range(n_events):
        film = generator.choice(films)
        yield Event(film.arm, generator.choice(film.rewards))


@dataclass(slots=True)
class Tally:
    """Counts of a replay so far.

    Attributes:
        n_events: All events.
        n_good: How many of them had reward 1.
        matched: Arm mapped to events that counted.
        matched_good: Arm mapped to how many of them had reward 1.
    """

    n_events: int = 0
    n_good: int = 0
    matched: Counter[str] = field(default_factory=Counter)
    matched_good: Counter[str] = field(default_factory=Counter)

    def add(self, event: Event, chosen: str) -> bool:
        """Count an event and the arm that the policy chose; return True if the event counts."""
        self.n_events += 1
        self.n_good += event.reward
        if event.arm != chosen:
            return False
        self.matched[event.arm] += 1
        self.matched_good[event.arm] += event.reward
        return True

    @property
    def n_matched(self) -> int:
        """Events that counted."""
        return self.matched.total()

    def gain(self) -> "Gain":
        """Return what the policy gained; raise ValueError before one event counted and one did not."""
        return Gain.of(self.n_matched, self.matched_good.total(), self.n_events, self.n_good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The mean reward of the policy against that of a uniform split.

    Attributes:
        policy: Mean reward of the events that counted.
        uniform: Mean reward of all events: what a uniform split earns.
        gain: The difference.
        standard_error: Standard error of the gain.
    """

    policy: float
    uniform: float
    gain: float
    standard_error: float

    @classmethod
    def of(cls, n_matched: int, matched_good: int, n_events: int, n_good: int) -> "Gain":
        """Return the gain from counts.

        All events are those that counted (m of n, mean p) and the others (mean q), so the uniform mean is
        ``(m/n) p + (1 - m/n) q`` and the gain is ``(1 - m/n) (p - q)``. Given the policy's shares, rewards
        are independent and the two groups share none, hence

            ``SE = (1 - m/n) sqrt(p (1 - p) / m + q (1 - q) / (n - m))``.

        It is the standard error of the gain given the shares served in this run; another run would learn
        along another path. ``p (1 - p)`` is at least the mean of the arms' own variances (a variance is
        concave in the mean), so the error is overstated rather than understated.

        >>> Gain.of(100, 80, 1000, 550).gain
        0.25
        """
        n_others = n_events - n_matched
        if not 0 < n_matched < n_events:
            raise ValueError(f"{n_matched} of {n_events} events counted: there is nothing to compare")
        policy = matched_good / n_matched
        others = (n_good - matched_good) / n_others
        variance = policy * (1 - policy) / n_matched + others * (1 - others) / n_others
        uniform = n_good / n_events
        return cls(
            policy=policy,
            uniform=uniform,
            gain=policy - uniform,
            standard_error=n_others / n_events * math.sqrt(variance),
        )
