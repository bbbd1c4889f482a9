"""Experiments: what was declared, where they are in their lives, and what changed since a load."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from bandit.experiment import Experiment
from bandit.facts import Epoch
from bandit.launch.state import Launch
from bandit.posteriors.moments import OutcomeMoments


class State(enum.StrEnum):
    """Where an experiment is in its life."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CONCLUDED = "concluded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord:
    """An experiment with its life.

    Attributes:
        number: The store's number for it, from 1, never used again.
        experiment: What was declared.
        state: Where it is in its life.
        revision: From 1, one more with every change of the experiment or its state.
        arm_numbers: Arm id to the store's number for it, from 0; arms no longer declared keep theirs.
        metric_numbers: Metric name to the store's number for it, from 0; metrics no longer declared keep
            theirs.
        winner: The arm that answers once concluded.
        launch: Where each challenger is in its launch; None without one, and before the experiment starts.
        taken_priors: Arm id to metric name to the discounted outcomes of another arm that its belief starts
            from; fixed when the arm was added. Of arms that took none, there is no entry.
        created_at: When it was created.
        updated_at: When it last changed.
        started_at: When it first ran.
        concluded_at: When it was concluded.
        unknown: What a newer release declared in it that this code does not know. With any of that it is
            answered for by its champion, and not changed.
    """

    number: int
    experiment: Experiment
    state: State
    revision: int
    arm_numbers: Mapping[str, int]
    metric_numbers: Mapping[str, int]
    winner: str | None = None
    launch: Launch | None = None
    taken_priors: Mapping[str, Mapping[str, OutcomeMoments]] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    concluded_at: datetime | None = None
    unknown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment.name

    @property
    def real_metrics(self) -> frozenset[int]:
        """Numbers of the declared metrics of real values."""
        return frozenset(
            self.metric_numbers[metric.name] for metric in self.experiment.metrics if metric.is_real
        )

    @property
    def arms_in_service(self) -> frozenset[str]:
        """Ids of the declared arms that may answer: neither an operator nor its launch keeps one out."""
        launch = self.launch
        return frozenset(
            arm.id
            for arm in self.experiment.arms
            if not arm.is_taken_out and (launch is None or launch.is_in_service(arm.id))
        )

    @classmethod
    def draft(cls, experiment: Experiment, now: datetime) -> Self:
        """A draft that no store has numbered yet."""
        return cls(
            number=0,
            experiment=experiment,
            state=State.DRAFT,
            revision=1,
            arm_numbers=_numbered({}, (arm.id for arm in experiment.arms)),
            metric_numbers=_numbered({}, (metric.name for metric in experiment.metrics)),
            created_at=now,
            updated_at=now,
        )

    def declaring(self, experiment: Experiment) -> Self:
        """The same experiment with another declaration: what is new in it gets numbers."""
        return replace(
            self,
            experiment=experiment,
            arm_numbers=_numbered(self.arm_numbers, (arm.id for arm in experiment.arms)),
            metric_numbers=_numbered(self.metric_numbers, (metric.name for metric in experiment.metrics)),
        )

    def arm_id(self, number: int) -> str:
        """The id of the arm of this number; KeyError if there never was one."""
        return {known: arm_id for arm_id, known in self.arm_numbers.items()}[number]

    def metric_name(self, number: int) -> str:
        """The name of the metric of this number; KeyError if there never was one."""
        return {known: name for name, known in self.metric_numbers.items()}[number]


def _numbered(known: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """`known` with the next number for each name that has none."""
    numbers = dict(known)
    for name in names:
        numbers.setdefault(name, len(numbers))
    return numbers


@dataclass(frozen=True, slots=True)
class LiveExperiment:
    """An experiment with the epoch in force; None for a draft."""

    record: ExperimentRecord
    epoch: Epoch | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since an earlier load.

    Attributes:
        live: Experiments that are new, changed, or have a new epoch.
        deleted: Numbers of experiments deleted since.
        watermark: Hand it to the next load.
        unreadable: Numbers of experiments that a newer release declared and this code can't read, to names.
    """

    live: tuple[LiveExperiment, ...]
    deleted: frozenset[int]
    watermark: int
    unreadable: Mapping[int, str] = field(default_factory=dict)
