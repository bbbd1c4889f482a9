"""What was counted of an experiment: decisions to add, and facts as one snapshot has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bandit.experiment import Experiment
from bandit.facts import DecisionKey, Epoch, Facts
from bandit.facts.shadow_pairs import ShadowFacts
from bandit.facts.units import SteeringFacts, UnitFacts
from server.store.records.experiments import ExperimentRecord
from server.store.records.launches import StoredLook

Sightings: TypeAlias = Mapping[bytes, tuple[tuple[bytes, ...], int]]
"""The hash of a unit to the unique ids of its first decisions, one to three, and how many it made in all;
they are of one key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """Decision counts to add, once.

    Attributes:
        slot: The writer's slot.
        incarnation: Random mark of the writer's run.
        sequence: From 1, one more with every flush of the run; a flush that is repeated keeps its number.
        counts: How many decisions to add.
        parts: Of the keys whose decisions are known by part, how many there are in each; they sum to the
            key's count.
        units: Which units were seen, where units are counted; a key may be there more than once.
        groups: Experiment to group of units to policy decisions to add, where decisions are counted.
        decided_ms: A time, as ids have it, before which no decision was made that a later flush carries.
    """

    slot: int
    incarnation: bytes
    sequence: int
    counts: Mapping[DecisionKey, int]
    units: Sequence[tuple[DecisionKey, Sightings]] = ()
    groups: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    parts: Mapping[DecisionKey, Sequence[int]] = field(default_factory=dict)
    decided_ms: int = 0


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
        steering: Metric number to what units steer with; None where decisions are counted, or if it was not
            asked for.
        n_old_runs: Runs of servers before 0.3.0 since the experiment started, as far as they are remembered.
        looks: Arm number to the last look at its launch.
        shadows: What came of shadow decisions; None if no arm was ever in shadow, or `now` was not given.
    """

    found: ExperimentFacts
    declarations: Sequence[Experiment]
    units: UnitFacts
    steering: Mapping[int, SteeringFacts] | None = None
    n_old_runs: int = 0
    looks: Mapping[int, StoredLook] = field(default_factory=dict)
    shadows: ShadowFacts | None = None
