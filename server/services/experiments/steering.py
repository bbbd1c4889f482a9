"""What units steer with, kept between folds: one over many units takes seconds, and facts always grow."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from bandit.experiment import AnalysisUnit
from bandit.facts.units import SteeringFacts
from server.services.runtime.clock import Clock
from server.store.contract import Store
from server.store.records import ExperimentRecord

REST: Final = 20
"""A fold that took t seconds is not repeated for this many times t, so that folds take 5 % of a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steering:
    """What an experiment's units steer with.

    Attributes:
        facts: Metric number to facts; None where decisions are counted.
        due_at: When it may be folded again, if it is of an earlier moment; None if it is of this one.
    """

    facts: Mapping[int, SteeringFacts] | None
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fold:
    revision: int
    facts: Mapping[int, SteeringFacts] | None
    due: float


class SteeringFolds:
    """Reads what units steer with. Belongs to the thread for computations.

    Args:
        clock: The time.
        lag: What is waited for beyond the window of a decision.
    """

    def __init__(self, clock: Clock, lag: timedelta) -> None:
        self._clock = clock
        self._lag = lag
        self._folds: dict[int, _Fold] = {}

    def read(self, store: Store, record: ExperimentRecord) -> Steering:
        """Return what the units of an experiment steer with: of now, or of an earlier fold that rests.

        A change of the declaration, such as of a window, ends the rest.
        """
        if record.experiment.analysis_unit is not AnalysisUnit.UNIT:
            return Steering(facts=None)
        started = self._clock.monotonic()
        known = self._folds.get(record.number)
        if known is not None and known.revision == record.revision and started < known.due:
            rest = timedelta(seconds=known.due - started)
            return Steering(facts=known.facts, due_at=self._clock.now() + rest)
        facts = store.read_steering(record.number, self._lag, self._clock.now())
        ended = self._clock.monotonic()
        due = ended + REST * (ended - started)
        self._folds[record.number] = _Fold(revision=record.revision, facts=facts, due=due)
        return Steering(facts=facts)

    def forget(self, number: int) -> None:
        """Drop what is kept of an experiment that does not run."""
        self._folds.pop(number, None)
