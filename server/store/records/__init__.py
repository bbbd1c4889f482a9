"""The values that go into a store and come out of it: frozen, and free of rows and of SQL."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, Self, TypeAlias

from bandit.decision_id import Basis
from bandit.experiment import Experiment
from bandit.facts import DecisionKey, Epoch, Facts
from bandit.facts.units import UnitFacts

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done."""


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


@dataclass(frozen=True, slots=True)
class ExperimentFacts:
    """An experiment, its epochs in order and its facts, all of one database snapshot."""

    record: ExperimentRecord
    epochs: tuple[Epoch, ...]
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """All that a report is made of, of one database snapshot.

    Attributes:
        found: The experiment, its epochs and facts.
        declarations: Every declaration under which it has run, oldest first.
        units: Who was counted once, and how units repeat.
        n_old_runs: Runs of servers before 0.3.0 since the experiment started, as far as they are remembered.
    """

    found: ExperimentFacts
    declarations: Sequence[Experiment]
    units: UnitFacts
    n_old_runs: int = 0


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that sign decisions.

    Attributes:
        secrets: Key id, in [0, 256), to secret.
        signing_key: The id of the newest key, which signs new decisions once its time has come.
        signs_at: Key id to when it begins to sign, and the key before it ends; a key that never took turns
            has no entry.
    """

    secrets: Mapping[int, bytes]
    signing_key: int
    signs_at: Mapping[int, datetime] = field(default_factory=dict)

    def signing_key_at(self, now: datetime) -> int:
        """The id of the key that signs at an instant."""
        begun = {key: at for key, at in self.signs_at.items() if at <= now}
        return max(begun, key=lambda key: begun[key]) if begun else self.signing_key

    def signed_until(self, key: int) -> datetime | None:
        """When the key after this one begins to sign; None if there is none yet, or it never took turns."""
        mine = self.signs_at.get(key)
        return None if mine is None else min((at for at in self.signs_at.values() if at > mine), default=None)

    def __repr__(self) -> str:
        return f"KeyRing(keys={sorted(self.secrets)}, signing_key={self.signing_key})"


Sightings: TypeAlias = Mapping[bytes, tuple[bytes, int]]
"""The hash of a unit to the unique id of its first decision and how many there were, all of one key."""


class Action(enum.StrEnum):
    """What a caller did."""

    CREATE = "create"
    UPDATE = "update"
    START = "start"
    PAUSE = "pause"
    CONCLUDE = "conclude"
    DELETE = "delete"
    ROTATE_KEY = "rotate_key"
    REVOKE_KEY = "revoke_key"
    ACCEPT_CLOCK = "accept_clock"
    REPAIR_CLOCK = "repair_clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A change, and who made it.

    Attributes:
        number: A later change has a higher one.
        at: When it was made.
        caller: Who made it.
        action: What was done.
        experiment: The experiment's name; None for a change of no experiment.
        before: A JSON object: what stood before; None if there was nothing.
        after: A JSON object: what stands since; None if it is gone.
    """

    number: int
    at: datetime
    caller: str
    action: str
    experiment: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """Decision counts to add, once.

    Attributes:
        slot: The writer's slot.
        incarnation: Random mark of the writer's run.
        sequence: From 1, one more with every flush of the run; a flush that is repeated keeps its number.
        counts: How many decisions to add.
        units: Which units were seen, where units are counted; a key may be there more than once.
        groups: (Experiment, group of units) to policy decisions to add, where decisions are counted.
        decided_ms: A time, as ids have it, before which no decision was made that a later flush carries.
    """

    slot: int
    incarnation: bytes
    sequence: int
    counts: Mapping[DecisionKey, int]
    units: Sequence[tuple[DecisionKey, Sightings]] = ()
    groups: Mapping[tuple[int, int], int] = field(default_factory=dict)
    decided_ms: int = 0


class OutcomeEntry(NamedTuple):
    """One observed value.

    Attributes:
        metric: The store's number of the metric.
        quanta: What it counts as, in the metric's quanta.
        is_late: Whether it came after the metric's window.
        value: What was posted, where the metric keeps values; else it is `quanta`.
        is_real: Whether the metric is one of real values, whose quanta are finer than those of the log.
    """

    metric: int
    quanta: int
    is_late: bool
    value: float | None = None
    is_real: bool = False


class RewardEntry(NamedTuple):
    """The outcomes of one decision, recorded all or none.

    Attributes:
        decision: The decision's unique id, 16 bytes.
        experiment: The store's number of the experiment.
        epoch: Number of the decision's epoch.
        segment: Number of the decision's segment.
        arm: Number of the decision's arm.
        basis: What kind of decision it was.
        outcomes: In order of metric number, each metric once.
        revision: A higher one replaces a value of a lower one.
        received_ms: When it arrived, in milliseconds since 1970.
        is_expired: Whether only outcomes known already are accepted.
        is_apart: Whether it is kept apart, never to be folded: its epoch is not the stored one of that
            number.
        unit: The hash of a policy decision's unit, in (0, 2^48), where units are counted; None elsewhere.
        key: Id of the key that signed the decision, which must be in the ring; None if that is no matter.
    """

    decision: bytes
    experiment: int
    epoch: int
    segment: int
    arm: int
    basis: Basis
    outcomes: tuple[OutcomeEntry, ...]
    revision: int
    received_ms: int
    is_expired: bool = False
    is_apart: bool = False
    unit: int | None = None
    key: int | None = None


class OutcomeResult(enum.StrEnum):
    """What became of one outcome."""

    RECORDED = "recorded"
    LATE = "late"
    DUPLICATE = "duplicate"
    REVISED = "revised"
    SUPERSEDED = "superseded"


class Recorded(NamedTuple):
    """Every outcome of the entry is in the store.

    Attributes:
        results: One for each outcome, in the order of the entry.
    """

    results: tuple[OutcomeResult, ...]


class Conflicting(NamedTuple):
    """Nothing of the entry was stored: these metrics hold other values at the same revision."""

    metrics: tuple[int, ...]


class Expired(NamedTuple):
    """Nothing of the entry was stored: it came too late, and these metrics hold no value yet."""

    metrics: tuple[int, ...]


class Sealed(NamedTuple):
    """Nothing of the entry was stored: what was known of the decision may be purged."""


class Revoked(NamedTuple):
    """Nothing of the entry was stored: the key that signed the decision is not in the ring any more."""


class Refused(NamedTuple):
    """Nothing of the entry was stored: the database refused its values."""


RewardVerdict = Recorded | Conflicting | Expired | Sealed | Revoked | Refused
