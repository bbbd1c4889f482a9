"""Assessment: all evidence about an experiment, from one reading of its epochs and facts.

For every metric: each arm's mean, and each challenger against the champion
(`bandit.inference.sequential.comparison`). On guardrails there is one claim more, of harm: where events do
harm, by conditional odds over open epochs as well. With a margin that claim is about being worse by more than
the margin, and there is another, of not being so (`bandit.inference.harm`). Signals have a state.

P-values and intervals are adjusted for each metric separately, by Bonferroni over both directions of every
challenger that the experiment ever had, so equal arms are called better or worse with probability alpha
together, not each. A family that grows was smaller before: arms added one after the other, each judged as it
comes, may together err up to alpha (1 + 1/2 + ... + 1/k), and did .04 of the time with twenty equal ones
(benchmarks.validity). Launches divide the error rate otherwise; see `families`. Comparisons are with the
current champion, so the choice of champion also depends on the data: when the best-looking of five equal arms
was made champion again and again, .028 of simulated experiments told two apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from bandit.allocation import ExperimentState
from bandit.facts import Epoch, Facts, ends_of
from bandit.facts.grid import FactGrid
from bandit.inference.data.table import EvidenceTable, closed_table, exposures, open_table
from bandit.inference.harm.margins import Ratio, edge_of, margin_evidence
from bandit.inference.harm.signals import signal_state
from bandit.inference.reasons import CannotSay
from bandit.inference.sequential.comparison import compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import (
    MeanEstimate,
    MeanLook,
    estimate_mean,
    look_at_mean,
)
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.sequential.response import Response, require_alike, response_of
from bandit.inference.sequential.results import EProcess
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, evidence_on
from bandit.inference.verdict.families import family_of
from bandit.metric import Metric

MOST_PATHS: Final = 20
"""With more arms than this, means over time are left out: the lines in a plot could not be told apart."""

MOST_LOOKS: Final = 60
"""Most looks in a path: as many as a plot can show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEvidence:
    """Evidence on one metric.

    Attributes:
        metric: The metric.
        means: Arm number to its mean.
        challengers: Arm number to its evidence, without the champion.
        paths: Arm number to its mean at earlier looks; without arms whose mean is missing, and empty with
            more than `MOST_PATHS` arms.
        response: Response ratios of the arms.
        row_ends: When the epoch of each row of the table ended, ascending.
        row_epochs: The epoch of each row, open ones included, of a signal; empty of any other metric.
    """

    metric: Metric
    means: Mapping[int, MeanEstimate | CannotSay]
    challengers: Mapping[int, ChallengerEvidence]
    paths: Mapping[int, tuple[MeanLook, ...]] = field(default_factory=dict)
    response: Response | CannotSay
    row_ends: tuple[datetime, ...]
    row_epochs: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """Evidence about an experiment.

    Attributes:
        champion: Number of the champion.
        reward: The metric that steers.
        others: Guardrails and every other metric, by name.
        sample_ratio: Whether decisions follow the shares.
        splits: Values of static splits, in the order of the request.
    """

    champion: int
    reward: MetricEvidence
    others: Mapping[str, MetricEvidence]
    sample_ratio: SampleRatio | CannotSay
    splits: tuple[SplitValue | CannotSay, ...]

    @property
    def is_alarming(self) -> bool:
        """True if decisions do not follow the shares: every estimate divides by shares, and all are wrong."""
        return isinstance(self.sample_ratio, SampleRatio) and self.sample_ratio.is_alarming()


def assess(
    state: ExperimentState,
    floors: Mapping[int, float],
    *,
    counted: Facts | None = None,
    withheld: CannotSay | None = None,
    splits: Sequence[Mapping[int, float]] = (),
    grid: FactGrid | None = None,
) -> Assessment:
    """Return the evidence at one moment.

    Args:
        state: The experiment, its epochs and facts, and the time.
        floors: Arm number to its smallest declared floor; see `smallest_floors`.
        counted: Facts of units at their first exposure, if evidence counts units and not decisions.
        withheld: Why there can be no evidence at all; None if there can.
        splits: Static splits to value on the reward metric, each arm number to weight.
        grid: The counted facts, if they are laid out already; see `grid_of`.
    """
    grid = grid or grid_of(state, counted)
    return _Assessor(state, floors, grid, withheld).assess(splits)


def grid_of(state: ExperimentState, counted: Facts | None = None) -> FactGrid:
    """Lay out the counted facts by epoch and by arm, of all arms that are declared or ever had a share."""
    declared = {state.arm_numbers[arm.id] for arm in state.experiment.arms}
    arms = sorted(declared.union(*(epoch.shares for epoch in state.epochs)))
    return FactGrid(counted or state.facts, state.epochs, arms, splits_first=True)


class _Assessor:
    """Computes one assessment."""

    def __init__(
        self,
        state: ExperimentState,
        floors: Mapping[int, float],
        grid: FactGrid,
        withheld: CannotSay | None,
    ) -> None:
        self._state = state
        self._grid = grid
        self._withheld = withheld
        self._champion = state.arm_numbers[state.experiment.champion]
        self._challengers = [arm for arm in grid.arms if arm != self._champion]
        self._design = Design(alpha=ALPHA, floors=dict(floors), n_challengers=max(len(self._challengers), 1))

    def assess(self, splits: Sequence[Mapping[int, float]]) -> Assessment:
        declared = self._state.experiment
        reward = declared.metric(declared.reward_metric)
        table = self._table(reward)
        return Assessment(
            champion=self._champion,
            reward=self._metric(reward, table),
            others={
                metric.name: self._metric(metric, self._table(metric))
                for metric in declared.metrics
                if metric is not reward
            },
            sample_ratio=self._withheld or check_sample_ratio(exposures(self._grid)),
            splits=tuple(
                table if isinstance(table, CannotSay) else value_of_split(table, split, self._design)
                for split in splits
            ),
        )

    def _table(self, metric: Metric) -> EvidenceTable | CannotSay:
        """Return the table of closed epochs, or the reason why it is not evidence."""
        if self._withheld is not None:
            return self._withheld
        table = closed_table(self._grid, self._numbered(metric), self._state.lag, self._state.now)
        is_silence_ignored = metric.default_value is None
        if isinstance(table, CannotSay) or not is_silence_ignored:
            return table
        return require_alike(table)

    def _numbered(self, metric: Metric) -> tuple[int, Metric]:
        return self._state.metric_numbers[metric.name], metric

    def _metric(self, metric: Metric, table: EvidenceTable | CannotSay) -> MetricEvidence:
        state, grid = self._state, self._grid
        ends = ends_of(state.epochs)
        n_first = grid.rows_of(1)  # the rows of the first epoch end together
        row_ends = (*ends[:1] * n_first, *ends[1:]) if ends else ()
        n_rows = 0 if isinstance(table, CannotSay) else len(table.shares)
        means, paths = self._means(table)
        return MetricEvidence(
            metric=metric,
            means=means,
            challengers=self._compared(metric, table),
            paths=paths,
            response=response_of(grid, self._numbered(metric), state.lag, state.now),
            row_ends=row_ends[:n_rows],
            row_epochs=grid.row_epochs if metric.is_signal else (),
        )

    def _means(
        self, table: EvidenceTable | CannotSay
    ) -> tuple[dict[int, MeanEstimate | CannotSay], dict[int, tuple[MeanLook, ...]]]:
        """Return each arm's mean, and its path if there are few arms."""
        arms = self._grid.arms
        if isinstance(table, CannotSay):
            return dict.fromkeys(arms, table), {}
        champion, design = self._champion, self._design
        means = {arm: estimate_mean(table, arm, champion, design) for arm in arms}
        if len(arms) > MOST_PATHS:
            return means, {}
        paths = {arm: look_at_mean(table, arm, champion, design, MOST_LOOKS) for arm in arms}
        return means, {arm: path for arm, path in paths.items() if path}

    def _compared(self, metric: Metric, table: EvidenceTable | CannotSay) -> dict[int, ChallengerEvidence]:
        early = table
        if metric.counts_early and self._withheld is None:
            early = open_table(self._grid, self._numbered(metric))
        return {arm: self._challenger(arm, metric, table, early) for arm in self._challengers}

    def _challenger(
        self, arm: int, metric: Metric, table: EvidenceTable | CannotSay, early: EvidenceTable | CannotSay
    ) -> ChallengerEvidence:
        """Compare one challenger; `early` has open epochs too, where harm is looked for in them."""
        family = family_of(self._state, self._grid, arm, self._challengers)
        champion, n_challengers = self._champion, family.n_challengers
        design = replace(self._design, n_challengers=n_challengers)
        table, early = family.rows_of(table, arm), family.rows_of(early, arm)
        return evidence_on(
            arm,
            metric,
            table if isinstance(table, CannotSay) else compare(table, arm, champion, design),
            n_challengers=n_challengers,
            open_harm=self._open_harm(arm, metric, early),
            n_harms=family.n_harms,
            margin=margin_evidence(metric, table, arm, champion, design) if metric.worse_by else None,
            signal=signal_state(metric, early, arm, champion, design) if metric.is_signal else None,
        )

    def _open_harm(
        self, arm: int, metric: Metric, early: EvidenceTable | CannotSay
    ) -> EProcess | CannotSay | None:
        """Return the evidence of harm on a guardrail whose open epochs are looked at, else None."""
        if not (metric.is_guardrail and metric.counts_early) or isinstance(early, CannotSay):
            return None
        edge = edge_of(metric)
        assert isinstance(edge, Ratio)  # noqa: S101 - only ratios are looked for early
        return harm_process(early, arm, self._champion, edge.value)
