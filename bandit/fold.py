"""From facts to posteriors: a sum over epochs, with the weights of decay and of lookback.

Nothing is remembered between two folds, so half-life, windows and priors can change in mid-flight.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from typing import TypeAlias

from bandit.decision import STEERING
from bandit.facts import Epoch, Facts, Tally, n_closed
from bandit.metric import Metric
from bandit.posteriors import Posterior
from bandit.sums import OutcomeSums

_NOTHING = Tally()
_Tallies: TypeAlias = dict[int, Tally]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """How epochs are weighted, and when they close.

    Attributes:
        half_life: Weighs an epoch by 2^(-age / half_life), its age counted from its start; None: all weigh 1.
        lookback: Leaves out epochs that began longer ago; None: all count.
        lag: How long a replica may go on with an epoch after its end.
    """

    half_life: timedelta | None = None
    lookback: timedelta | None = None
    lag: timedelta = timedelta()

    @property
    def is_even(self) -> bool:
        """Whether every epoch weighs 1."""
        return self.half_life is None and self.lookback is None

    def weight(self, started_at: datetime, now: datetime) -> float:
        """What an epoch that began at `started_at` weighs at `now`, in [0, 1]."""
        age = max(now - started_at, timedelta())
        if self.lookback is not None and age > self.lookback:
            return 0.0
        return 1.0 if self.half_life is None else 2.0 ** -(age / self.half_life)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEvidence:
    """What steers one arm on one metric.

    Attributes:
        sums: Weighted observations, silence included where the metric gives it a value.
        n_outcomes: Posted outcomes among them, unweighted.
        n_open: Outcomes in time whose epoch has not closed yet.
        n_late: Outcomes that came after their window; they never steer.
    """

    sums: OutcomeSums = field(default_factory=OutcomeSums)
    n_outcomes: int = 0
    n_open: int = 0
    n_late: int = 0


def fold_facts(
    facts: Facts,
    epochs: Sequence[Epoch],
    metric: tuple[int, Metric],
    arms: Iterable[int],
    *,
    weighting: Weighting,
    now: datetime,
) -> dict[int, ArmEvidence]:
    """Folds one metric's facts over the epochs of one segment.

    With a window, a decision's outcome and its silence are counted together, when its epoch has closed;
    without one, posted outcomes count at once and silence counts for nothing. Only policy and restricted
    decisions steer.

    Args:
        facts: The experiment's facts.
        epochs: The segment's epochs, in order of number.
        metric: The store's number of the metric, and the metric.
        arms: Numbers of the arms to report on.
        weighting: Weights of epochs.
        now: The moment to fold for.

    Returns:
        Arm number to its evidence, for every one of `arms`.
    """
    number, declared = metric
    closed = epochs[: n_closed(epochs, declared.window, weighting.lag, now)]
    posted = _steering_tallies(facts, number)
    counted = posted
    if declared.window is not None and declared.default_value is not None:
        counted = _with_silence(posted, facts, closed, declared.quantise(declared.default_value))
    return {
        arm: ArmEvidence(
            sums=_sum_epochs(counted[arm], closed, declared, weighting, now),
            n_outcomes=_n_posted(posted[arm], epochs[: len(closed)]),
            n_open=_n_posted(posted[arm], epochs[len(closed) :]),
            n_late=sum(tally.late_n for tally in posted[arm].values()),
        )
        for arm in arms
    }


def posteriors_from(metric: Metric, evidence: Mapping[int, ArmEvidence]) -> dict[int, Posterior]:
    """Arm number to the posterior of its mean, prior and evidence together."""
    prior = metric.effective_prior
    return {arm: prior.update(seen.sums) for arm, seen in evidence.items()}


def _steering_tallies(facts: Facts, metric: int) -> defaultdict[int, _Tallies]:
    """Arm to epoch to tally."""
    tallies: defaultdict[int, _Tallies] = defaultdict(dict)
    for key, tally in facts.outcomes.items():
        if key.metric == metric and key.basis in STEERING:
            known = tallies[key.arm].get(key.epoch)
            tallies[key.arm][key.epoch] = tally if known is None else known.plus(tally)
    return tallies


def _with_silence(
    posted: Mapping[int, _Tallies], facts: Facts, closed: Sequence[Epoch], quanta: int
) -> defaultdict[int, _Tallies]:
    """Adds the default value for every decision of a closed epoch that no outcome in time came for.

    A late outcome was silence when its window closed. A crash loses up to a second of decision counts, so
    there may be more outcomes than decisions: then there was no silence.
    """
    counted = defaultdict(dict, {arm: dict(tallies) for arm, tallies in posted.items()})
    for (arm, epoch), n_decisions in _steering_decisions(facts, {epoch.number for epoch in closed}).items():
        tally = counted[arm].get(epoch, _NOTHING)
        n_silent = max(n_decisions - tally.n, 0)
        silence = Tally(n=n_silent, total=n_silent * quanta, squares=n_silent * quanta * quanta)
        counted[arm][epoch] = tally.plus(silence)
    return counted


def _steering_decisions(facts: Facts, epochs: Collection[int]) -> dict[tuple[int, int], int]:
    """Arm and epoch to decisions."""
    decided: defaultdict[tuple[int, int], int] = defaultdict(int)
    for key, count in facts.decisions.items():
        if key.basis in STEERING and key.epoch in epochs:
            decided[key.arm, key.epoch] += count
    return decided


def _n_posted(tallies: _Tallies, epochs: Iterable[Epoch]) -> int:
    return sum(tallies[epoch.number].n for epoch in epochs if epoch.number in tallies)


def _sum_epochs(
    tallies: _Tallies, closed: Sequence[Epoch], metric: Metric, weighting: Weighting, now: datetime
) -> OutcomeSums:
    if weighting.is_even:
        counted = (tallies[epoch.number] for epoch in closed if epoch.number in tallies)
        return _to_sums(reduce(Tally.plus, counted, _NOTHING), metric)
    weighted = (
        _to_sums(tallies[epoch.number], metric).weighted(weighting.weight(epoch.started_at, now))
        for epoch in closed
        if epoch.number in tallies
    )
    return reduce(OutcomeSums.merge, weighted, OutcomeSums())


def _to_sums(tally: Tally, metric: Metric) -> OutcomeSums:
    return OutcomeSums.from_integers(
        tally.n, tally.total, tally.squares, quantum=metric.quantum, offset=metric.offset
    )
