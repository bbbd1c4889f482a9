"""Everything that may be called evidence about an experiment, from one reading of its epochs and facts.

For every metric: each arm's mean, and each challenger against the champion in both directions. Which test:

- yes/no rewards: the mean of the AIPW and the conditional-odds e-processes (a mean of e-processes is one), so
  that nobody has to choose by the rate that is seen; while one of them can't say anything it counts as E = 1,
  since to leave it out now and take it in later would be a choice by the data;
- yes/no guardrails: conditional odds, over open epochs as well where an event does harm;
- anything else: AIPW.

P-values are adjusted by Holm, for each metric apart. The family is both directions of every challenger that
the experiment ever had, so equal arms are called better or worse with probability alpha together and not
each. An interval with alpha / 2 a side says the same. A family that grows was smaller before: arms added one
after the other, each judged as it comes, may together err up to alpha (1 + 1/2 + ... + 1/k), and some .04 of
the time with twenty equal ones (benchmarks.validity). Comparisons are with the champion of the moment, so who
has been champion is part of what was looked at: with equal arms, the best-looking of five made champion over
and over, .028 of simulated experiments told two apart.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from bandit.allocation import Standing
from bandit.facts import Facts, ends_of
from bandit.inference.aipw import Comparison, MeanEstimate, compare_means, estimate_mean
from bandit.inference.design import Design
from bandit.inference.lift import relative_lift
from bandit.inference.multiplicity import holm, mean_process
from bandit.inference.odds import OddsComparison, compare_odds, harm_process
from bandit.inference.off_policy import SplitValue, value_of_split
from bandit.inference.path import MeanLook, look_at_mean
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.response import Response, measure_response, require_alike
from bandit.inference.results import EProcess, Interval
from bandit.inference.sample_ratio import SampleRatio, check_sample_ratio
from bandit.inference.table import EvidenceTable, evidence_table, exposure_table, open_evidence_table
from bandit.metric import Direction, Metric

ALPHA: Final = 0.05
"""Error rate of every test family and of each interval."""

MOST_PATHS: Final = 20
"""With more arms than this, means over time are left out: nobody could tell the lines apart."""

MOST_LOOKS: Final = 60
"""Looks in a path: what a plot can show."""


class TestKind(enum.StrEnum):
    """Which e-process stands behind a claim."""

    __test__ = False  # the name begins like a test's

    AIPW = "aipw"
    ODDS = "odds"
    MEAN = "mean of aipw and odds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Evidence for one direction: the challenger is better, or it is worse.

    Attributes:
        test: The e-process behind it.
        process: Evidence against "it is not".
        p_value: Anytime-valid and adjusted by Holm over challengers and directions, in (0, 1].
        is_contradicted: Whether the AIPW difference over all decisions so far lies on the other side of 0.
        is_early: Whether it takes events of epochs that are still open to show it: an arm whose events are
            only reported sooner looks the same until the others' are in.
    """

    test: TestKind
    process: EProcess
    p_value: float
    is_contradicted: bool = False
    is_early: bool = False

    @property
    def is_lapsed(self) -> bool:
        """Whether all decisions so far, taken together, do not bear it out.

        A p-value is the smallest so far. Under a drift that arms don't share, an earlier look may have been
        right about its own past and be out of date; and the odds test may find a ratio above 1 in some epochs
        while the difference over all of them is the other way.
        """
        return self.is_contradicted or self.process.log_value < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengerEvidence:
    """One challenger against the champion on one metric.

    Attributes:
        arm: Number of the challenger.
        difference: Challenger less champion, with bounds.
        lift: Bounds of the relative lift.
        better: That it is better.
        worse: That it is worse.
    """

    arm: int
    difference: Comparison | CannotSay
    lift: Interval | CannotSay
    better: Claim | CannotSay
    worse: Claim | CannotSay


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEvidence:
    """What is evident on one metric.

    Attributes:
        metric: The metric.
        means: Arm number to its mean.
        challengers: Arm number to its evidence, without the champion.
        paths: Arm number to its mean at earlier looks; without arms of which nothing can be said, and empty
            with more than `MOST_PATHS` arms.
        response: How often arms answered.
        row_ends: When each row of the table's epochs ended, ascending; rows of processes over closed epochs.
    """

    metric: Metric
    means: Mapping[int, MeanEstimate | CannotSay]
    challengers: Mapping[int, ChallengerEvidence]
    paths: Mapping[int, tuple[MeanLook, ...]] = field(default_factory=dict)
    response: Response | CannotSay
    row_ends: tuple[datetime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is evident about an experiment.

    Attributes:
        champion: Number of the champion.
        reward: The metric that steers.
        others: Guardrails and every other metric, by name.
        sample_ratio: Whether decisions follow the shares.
        splits: What static splits would have earned, as asked for.
    """

    champion: int
    reward: MetricEvidence
    others: Mapping[str, MetricEvidence]
    sample_ratio: SampleRatio | CannotSay
    splits: tuple[SplitValue | CannotSay, ...]


def assess(
    standing: Standing,
    floors: Mapping[int, float],
    *,
    counted: Facts | None = None,
    withheld: CannotSay | None = None,
    splits: Sequence[Mapping[int, float]] = (),
) -> Assessment:
    """The evidence at one moment.

    Args:
        standing: The experiment, its epochs and facts, and the moment.
        floors: Arm number to its smallest declared floor; see `smallest_floors`.
        counted: What evidence counts, where that is not decisions: facts of units at their first exposure.
        withheld: Why there can be no evidence at all; None if there can.
        splits: Static splits to value on the reward metric, each arm number to weight.
    """
    return _Assessor(standing, floors, counted or standing.facts, withheld).assess(splits)


class _Assessor:
    """One assessment in the making."""

    def __init__(
        self, standing: Standing, floors: Mapping[int, float], counted: Facts, withheld: CannotSay | None
    ) -> None:
        self._standing = standing
        self._counted = counted
        self._withheld = withheld
        declared = {standing.arm_numbers[arm.id] for arm in standing.experiment.arms}
        self._arms = sorted(declared.union(*(epoch.shares for epoch in standing.epochs)))
        self._champion = standing.arm_numbers[standing.experiment.champion]
        self._challengers = [arm for arm in self._arms if arm != self._champion]
        self._design = Design(alpha=ALPHA, floors=dict(floors))

    def assess(self, splits: Sequence[Mapping[int, float]]) -> Assessment:
        declared = self._standing.experiment
        reward = declared.metric(declared.reward_metric)
        table = self._table(reward)
        exposures = exposure_table(self._counted, self._standing.epochs, self._arms)
        return Assessment(
            champion=self._champion,
            reward=self._metric(reward, table),
            others={
                metric.name: self._metric(metric, self._table(metric))
                for metric in declared.metrics
                if metric is not reward
            },
            sample_ratio=self._withheld or check_sample_ratio(exposures),
            splits=tuple(
                table if isinstance(table, CannotSay) else value_of_split(table, split, self._design)
                for split in splits
            ),
        )

    def _table(self, metric: Metric) -> EvidenceTable | CannotSay:
        """The table of closed epochs, or why it is no evidence."""
        if self._withheld is not None:
            return self._withheld
        standing = self._standing
        table = evidence_table(
            self._counted,
            standing.epochs,
            self._numbered(metric),
            self._arms,
            lag=standing.lag,
            now=standing.now,
        )
        is_silence_ignored = metric.default_value is None
        if isinstance(table, CannotSay) or not is_silence_ignored:
            return table
        return require_alike(table)

    def _numbered(self, metric: Metric) -> tuple[int, Metric]:
        return self._standing.metric_numbers[metric.name], metric

    def _metric(self, metric: Metric, table: EvidenceTable | CannotSay) -> MetricEvidence:
        standing = self._standing
        n_rows = 0 if isinstance(table, CannotSay) else len(table.shares)
        return MetricEvidence(
            metric=metric,
            means={arm: self._mean(table, arm) for arm in self._arms},
            challengers=self._compared(metric, table),
            paths=self._paths(table),
            response=measure_response(
                self._counted,
                standing.epochs,
                self._numbered(metric),
                self._arms,
                lag=standing.lag,
                now=standing.now,
            ),
            row_ends=tuple(ends_of(standing.epochs)[:n_rows]),
        )

    def _mean(self, table: EvidenceTable | CannotSay, arm: int) -> MeanEstimate | CannotSay:
        return table if isinstance(table, CannotSay) else estimate_mean(table, arm, self._design)

    def _paths(self, table: EvidenceTable | CannotSay) -> dict[int, tuple[MeanLook, ...]]:
        if isinstance(table, CannotSay) or len(self._arms) > MOST_PATHS:
            return {}
        paths = {arm: look_at_mean(table, arm, self._design, MOST_LOOKS) for arm in self._arms}
        return {arm: path for arm, path in paths.items() if not isinstance(path, CannotSay)}

    def _compared(self, metric: Metric, table: EvidenceTable | CannotSay) -> dict[int, ChallengerEvidence]:
        is_harm_watched = self._withheld is None and metric.is_harmful_event
        watched = self._open_table(metric) if is_harm_watched else None
        pairs = {
            arm: _Pair(metric, table, watched, (arm, self._champion), self._design)
            for arm in self._challengers
        }
        claims = _adjusted(
            {
                (arm, is_better): pair.claim(is_better=is_better)
                for arm, pair in pairs.items()
                for is_better in _BOTH
            }
        )
        return {
            arm: ChallengerEvidence(
                arm=arm,
                difference=pair.difference,
                lift=pair.lift(),
                better=claims[arm, True],
                worse=claims[arm, False],
            )
            for arm, pair in pairs.items()
        }

    def _open_table(self, metric: Metric) -> EvidenceTable:
        standing = self._standing
        return open_evidence_table(self._counted, standing.epochs, self._numbered(metric), self._arms)


class _Pair:
    """A challenger and the champion on one metric, under every test that applies."""

    def __init__(
        self,
        metric: Metric,
        table: EvidenceTable | CannotSay,
        watched: EvidenceTable | None,
        arms: tuple[int, int],
        design: Design,
    ) -> None:
        self._table = table
        self._watched = watched
        self._arm, self._champion = arm, champion = arms
        self._design = design
        self._is_guarded = metric.is_guardrail
        self._is_more_better = metric.direction is Direction.MAXIMIZE
        self.difference: Comparison | CannotSay = (
            table if isinstance(table, CannotSay) else compare_means(table, arm, champion, design)
        )
        self._odds: OddsComparison | CannotSay = (
            table if isinstance(table, CannotSay) else compare_odds(table, arm, champion, design.alpha)
        )

    def lift(self) -> Interval | CannotSay:
        if isinstance(self._odds, OddsComparison):
            return self._odds.lift
        if isinstance(self._table, CannotSay):
            return self._table
        return relative_lift(self._table, self._arm, self._champion, self._design)

    def claim(self, *, is_better: bool) -> Claim | CannotSay:
        return self._better() if is_better else self._worse()

    def _better(self) -> Claim | CannotSay:
        aipw = self.difference if isinstance(self.difference, CannotSay) else self.difference.better
        odds = self._odds if isinstance(self._odds, CannotSay) else self._odds.better
        return self._joined(aipw, odds, is_contradicted=self._gain() < 0)

    def _worse(self) -> Claim | CannotSay:
        if self._watched is not None:
            return self._watched_harm(self._watched)
        aipw = self.difference if isinstance(self.difference, CannotSay) else self.difference.worse
        odds = self._odds if isinstance(self._odds, CannotSay) else self._odds.worse
        return self._joined(aipw, odds, is_contradicted=self._gain() > 0)

    def _watched_harm(self, watched: EvidenceTable) -> Claim | CannotSay:
        process = harm_process(watched, self._arm, self._champion)
        if isinstance(process, CannotSay):
            return process
        claim = _claim(TestKind.ODDS, _as_of_now(process))
        is_settled = isinstance(self._odds, OddsComparison) and self._odds.worse.rejects(self._design.alpha)
        return replace(claim, is_early=not is_settled)

    def _gain(self) -> float:
        """The estimated difference, positive for the better; 0 where there is none."""
        if isinstance(self.difference, CannotSay):
            return 0.0
        return self.difference.difference * (1 if self._is_more_better else -1)

    def _joined(
        self, aipw: EProcess | CannotSay, odds: EProcess | CannotSay, *, is_contradicted: bool
    ) -> Claim | CannotSay:
        """The claim by the test that the metric's declaration asks for."""
        if isinstance(odds, CannotSay) and odds.reason is Reason.NOT_YES_NO:
            return aipw if isinstance(aipw, CannotSay) else _claim(TestKind.AIPW, aipw, is_contradicted)
        if self._is_guarded:
            return odds if isinstance(odds, CannotSay) else _claim(TestKind.ODDS, odds, is_contradicted)
        said = [process for process in (aipw, odds) if isinstance(process, EProcess)]
        if isinstance(aipw, CannotSay) and not said:
            return aipw
        silent = EProcess((0.0,) * len(said[0].log_values))
        return _claim(TestKind.MEAN, mean_process([*said, silent][:_N_MIXED]), is_contradicted)


def _as_of_now(process: EProcess) -> EProcess:
    """The process over all events so far as one row.

    While epochs are open, events come in another order than that of epochs: the value over all of them is
    what it would be in the order of arrival, and a maximum over rows would not be.
    """
    return EProcess((process.log_value,))


def _claim(test: TestKind, process: EProcess, is_contradicted: bool = False) -> Claim:  # noqa: FBT001, FBT002
    return Claim(test=test, process=process, p_value=process.p_value, is_contradicted=is_contradicted)


def _adjusted(
    claims: Mapping[tuple[int, bool], Claim | CannotSay],
) -> dict[tuple[int, bool], Claim | CannotSay]:
    """The claims with p-values adjusted over all of them; one that can't be said counts as 1."""
    adjusted = holm(
        {key: 1.0 if isinstance(claim, CannotSay) else claim.p_value for key, claim in claims.items()}
    )
    return {
        key: claim if isinstance(claim, CannotSay) else replace(claim, p_value=adjusted[key])
        for key, claim in claims.items()
    }


_BOTH: Final = (True, False)
_N_MIXED: Final = 2
"""AIPW and odds."""
