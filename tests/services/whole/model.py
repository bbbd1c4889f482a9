"""A plain model of the service: experiments, decisions and rewards as they should be."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from bandit.decision_id import Basis
from bandit.experiment import Arm, Experiment
from bandit.limits import Limits
from bandit.metric import Metric, MetricKind
from server.store.records import State
from tests.bandit.builders import declare

WINDOW: Final = timedelta(seconds=30)
LONGEST: Final = timedelta(hours=1)
CLICKS: Final = Metric(name="clicks", window=WINDOW, default_value=0.0)
SPEND: Final = Metric(name="spend", kind=MetricKind.REAL, maximum=100.0)
METRICS: Final = {"clicks": (0, CLICKS), "spend": (1, SPEND)}
ARMS: Final = ("a", "b", "c")
CHAMPION: Final = "a"


@dataclass
class KnownExperiment:
    """An experiment in the model."""

    name: str
    number: int
    limits: Limits = field(default_factory=Limits)
    is_c_out: bool = False
    state: State | None = State.DRAFT
    winner: str | None = None
    n_epochs: int = 0
    arms: dict[tuple[int, str], str] = field(default_factory=dict)
    counted: Counter[tuple[int, Basis]] = field(default_factory=Counter)

    @property
    def declared(self) -> Experiment:
        """Return its declaration."""
        arms = [Arm(id=arm, is_taken_out=arm == "c" and self.is_c_out) for arm in ARMS]
        declared = declare(self.name, arms=arms, metrics=(CLICKS, SPEND), limits=self.limits)
        return replace(declared, max_decision_age=LONGEST)

    def floor_of(self, arm: str) -> float:
        """Return the least share that an arm in service may have."""
        return 0.0 if arm == "c" and self.is_c_out else self.limits.floor_of(arm)


@dataclass(frozen=True)
class KnownDecision:
    """A decision in the model."""

    id: str
    experiment: KnownExperiment
    epoch: int
    arm: int
    basis: Basis
    decided_ms: int


@dataclass(frozen=True)
class Posted:
    """A reward as it was posted."""

    decision: KnownDecision
    outcomes: dict[str, float]
    revision: int
