"""The reward log of an experiment, for an export."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bandit.facts.units import UnitFacts
from bandit.metric import Metric
from server.store.records.facts import ExperimentFacts


class LoggedOutcome(NamedTuple):
    """A row of the reward log.

    Attributes:
        decision: The decision's unique id, 16 bytes, ordered by time.
        metric: Number of the metric.
        epoch: Number of the decision's epoch.
        segment: Number of the decision's segment.
        arm: Number of the decision's arm.
        basis: What kind of decision it was.
        value: As it was posted last; where that is not known, what it counts as.
        revision: Of that value.
        is_late: Whether the first value came after the metric's window.
        is_apart: Whether it is kept apart and in no fact: its epoch is not the stored one of that number.
        received_ms: When the first value arrived, in milliseconds since 1970.
    """

    decision: bytes
    metric: int
    epoch: int
    segment: int
    arm: int
    basis: int
    value: float
    revision: int
    is_late: bool
    is_apart: bool
    received_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An experiment as one database snapshot has it; to be read inside the block that opened it.

    Attributes:
        found: The experiment with its epochs and facts.
        metrics: Metric number to metric, for every metric that there ever was: those no longer declared as
            they were declared last.
        units: The units, where evidence counts those.
        read_log: The reward log in the order of decisions and metrics, at most as many rows at a time as the
            argument says.
    """

    found: ExperimentFacts
    metrics: Mapping[int, Metric]
    units: UnitFacts
    read_log: Callable[[int], Iterator[Sequence[LoggedOutcome]]]
