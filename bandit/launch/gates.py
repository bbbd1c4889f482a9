"""Gates and holds: what a challenger's step asks for, and what keeps the challenger from moving.

A *gate* opens by itself, with time or traffic. A *hold* has a cause, and ends when the cause does. A
challenger moves when every gate of its step is open and nothing holds it.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log
from typing import Final

from bandit.launch import moves
from bandit.launch.claims import LaunchClaim
from bandit.launch.launching import Launching, MoveRefusedError, NoRoomError, Occasion
from bandit.launch.plan import DAYS_IN_A_CYCLE, LaunchPlan, StageKind
from bandit.launch.state import ArmLaunch, ArmState

ENOUGH_OF_A_CYCLE: Final = 0.9
"""The part of a cycle that has to be covered for the cycle to count, once it is over."""

LEAST_EXPECTED: Final = 20.0
"""Outcomes that a challenger without any should have had, by the champion's rate, before its silence is a
fault: by chance all of them are missing once in e^20 times."""


class HoldCause(enum.StrEnum):
    """What keeps a challenger from moving."""

    OPERATOR = "operator"
    SIGNAL = "signal"
    SAMPLE_RATIO = "sample_ratio"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"
    PAUSED = "paused"
    ROOM = "room"
    APPROVAL = "approval"
    CLOCK = "clock"
    GUARDRAIL = "guardrail"
    HOLDBACK = "holdback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One cause that keeps a challenger from moving.

    Attributes:
        cause: The cause.
        metric: The metric of a signal or a guardrail; empty otherwise.
        detail: What the cause says of itself, such as a person's reason; empty if nothing.
        lasted: For how long no outcome of any arm has come in, if that is the cause.
        skewed: The arm that is furthest from its share, and by what part of it, if that is the cause.
    """

    cause: HoldCause
    metric: str = ""
    detail: str = ""
    lasted: timedelta | None = None
    skewed: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Something that a step asks for.

    Attributes:
        name: The plan's key for it, or `evidence` and `probability_best` for a promotion.
        figure: How much of it there is; durations in seconds.
        threshold: How much opens it.
        opens_at: The earliest instant at which it opens; None if it is open, or rests on traffic.
        counts_pairs: Whether it counts pairs of a shadow's outcome and the champion's, and not outcomes.
    """

    name: str
    figure: float
    threshold: float
    opens_at: datetime | None = None
    counts_pairs: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is enough."""
        return self.figure >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """A challenger's relative change of the reward metric, and its bounds, which hold at every look.

    Attributes:
        estimate: The change: the challenger's mean over the champion's, less 1.
        lower: At least that.
        upper: At most that; infinite if nothing bounds it.
    """

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleLift:
    """A relative improvement, and how long it takes to be seen.

    Attributes:
        lift: The change of the goal; negative where less is better.
        days: Days at this traffic after which it is established at even odds; infinite if it never is.
    """

    lift: float
    days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFigures:
    """What a look finds about one arm, in its current visit.

    Attributes:
        decisions: Policy decisions for it; of an arm in shadow, its shadow decisions.
        outcomes: Outcomes of the reward metric that were posted for them; of an arm in shadow, pairs of the
            metric that has the fewest.
        expected_outcomes: How many the champion's rate leads to expect.
        covered: Time with its full share and traffic.
        covered_by_cycle: Cycle since the visit began, from 0, to time covered in it.
        share: Its share in the epoch in force.
        evidence: Log of the e-value that it is better; None if it can't be given.
        unsaid: Why it can't be given; empty if it is.
        level: Log of the e-value at which that is established.
        lift: Its relative change from the champion; None if it can't be said.
        most_lift: Bound of what it could gain, relative to the champion; None if there is none.
        probability_best: Belief that it is the best arm.
        is_winner: Whether the report's rule would promote it.
        mirrored: The part of its shadow decisions of which any outcome was posted; None unless in shadow.
        led_at: When it was first established as better, where it no longer is; None otherwise.
        visible: How long an improvement takes to be seen; None unless it was asked for, and waited for.
    """

    decisions: int = 0
    outcomes: int = 0
    expected_outcomes: float = 0.0
    covered: timedelta = timedelta()
    covered_by_cycle: Mapping[int, timedelta] = field(default_factory=dict)
    share: float = 0.0
    evidence: float | None = None
    unsaid: str = ""
    level: float = 0.0
    lift: Lift | None = None
    most_lift: float | None = None
    probability_best: float = 0.0
    is_winner: bool = False
    mirrored: float | None = None
    led_at: datetime | None = None
    visible: VisibleLift | None = None

    def whole_cycles(self, cycle: timedelta, n_over: int) -> int:
        """Return how many of the first `n_over` cycles, all over, are covered by at least nine tenths."""
        return sum(
            covered >= ENOUGH_OF_A_CYCLE * cycle
            for index, covered in self.covered_by_cycle.items()
            if index < n_over
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A guardrail that shows harm, a signal that holds, or a goal that has turned after a promotion.

    Attributes:
        metric: The metric.
        figures: What it rests on, by name.
        is_trip_wire: Whether it is the fuse, which claims no significance.
        is_reversal: Whether the metric is the goal, on which the former champion is better in the holdback.
    """

    metric: str
    figures: Mapping[str, float] = field(default_factory=dict)
    is_trip_wire: bool = False
    is_reversal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything that one look at an experiment finds.

    Attributes:
        at: When.
        launching: The experiment and its launch.
        figures: Arm id to figures, for every arm of the launch.
        is_running: Whether shares decide.
        is_clock_doubted: Whether the server's clock is in doubt.
        is_alarming: Whether decisions do not follow the shares.
        skewed: Then the arm that is furthest from its share, and by what part of it; None if unknown.
        harmed: Arm id to the guardrails that show harm, and to a goal that turned in the arm's holdback.
        signals: Arm id to the signals that hold it.
        claims: Arm id to what is claimed of it, of arms on their way.
        silence: For how long no outcome of any arm has come in, where some should have; None if some did.
        window: How long after a decision an outcome of the reward metric counts.
        cycle_ends_at: When the experiment's cycle ends, at which promotions are looked at; None if unknown.
    """

    at: datetime
    launching: Launching
    figures: Mapping[str, ArmFigures]
    is_running: bool = True
    is_clock_doubted: bool = False
    is_alarming: bool = False
    skewed: tuple[str, float] | None = None
    harmed: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    signals: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    claims: Mapping[str, Sequence[LaunchClaim]] = field(default_factory=dict)
    silence: timedelta | None = None
    window: timedelta = timedelta()
    cycle_ends_at: datetime | None = None

    def gates(self, arm_id: str) -> tuple[Gate, ...]:
        """Return what the arm's step asks for; empty unless it is on its way or champion in its holdback."""
        arm, plan = self.launching.arm(arm_id), self.launching.plan
        figures = self.figures.get(arm_id, ArmFigures())
        if arm.state is ArmState.PROMOTED:
            return tuple(
                _cycle_gates("holdback", _holdback_cycles(self.launching), arm, figures, plan, self.at)
            )
        return tuple(_gates(arm, figures, plan, self.at))

    def holds(self, arm_id: str) -> tuple[Hold, ...]:
        """Return what keeps an arm from moving; empty if nothing does, or it has nowhere to go."""
        return tuple(_holds(self, arm_id))

    def is_free(self, arm_id: str) -> bool:
        """Whether an arm may take its next step: every gate is open, and nothing holds it."""
        return self.has_open_gates(arm_id) and not self.holds(arm_id)

    def has_open_gates(self, arm_id: str) -> bool:
        """Whether every gate of an arm's step is open."""
        return all(gate.is_open for gate in self.gates(arm_id))


def _gates(arm: ArmLaunch, figures: ArmFigures, plan: LaunchPlan, now: datetime) -> Iterator[Gate]:
    step = arm.current
    if step is None:
        return
    stage = step.stage
    least = stage.minimum_duration
    if least is None and not stage.has_minimum and stage.kind is not StageKind.BANDIT:
        least = plan.cycle / DAYS_IN_A_CYCLE
    if least is not None:
        missing = least - figures.covered
        yield Gate(
            name="minimum_duration",
            figure=figures.covered.total_seconds(),
            threshold=least.total_seconds(),
            opens_at=now + missing if missing > timedelta() else None,
        )
    yield from _cycle_gates("whole_cycles", stage.whole_cycles, arm, figures, plan, now)
    if stage.minimum_decisions:
        yield Gate(name="minimum_decisions", figure=figures.decisions, threshold=stage.minimum_decisions)
    if stage.minimum_outcomes:
        yield Gate(
            name="minimum_outcomes",
            figure=figures.outcomes,
            threshold=stage.minimum_outcomes,
            counts_pairs=figures.mirrored is not None,
        )
    if figures.mirrored is not None:
        yield Gate(name="minimum_mirrored", figure=figures.mirrored, threshold=stage.minimum_mirrored)
    if stage.kind is StageKind.BANDIT:
        yield from _cycle_gates("minimum_cycles", plan.minimum_cycles, arm, figures, plan, now)
        yield from _promotion_gates(figures)


def _cycle_gates(
    name: str, threshold: int, arm: ArmLaunch, figures: ArmFigures, plan: LaunchPlan, now: datetime
) -> Iterator[Gate]:
    if not threshold:
        return
    n_over = max((now - arm.entered_at) // plan.cycle, 0)
    whole = figures.whole_cycles(plan.cycle, n_over)
    ends_at = arm.entered_at + (n_over + threshold - whole) * plan.cycle
    opens_at = ends_at if whole < threshold else None
    yield Gate(name=name, figure=whole, threshold=threshold, opens_at=opens_at)


def _promotion_gates(figures: ArmFigures) -> Iterator[Gate]:
    level = figures.level if figures.evidence is not None else _LEAST_LEVEL
    yield Gate(name="evidence", figure=figures.evidence or 0.0, threshold=level)
    yield Gate(name="probability_best", figure=figures.probability_best, threshold=LEAST_PROBABILITY)


_LEAST_LEVEL: Final = log(20)
"""The threshold of evidence that can't be given, and so has no level: that of a single test at .05."""

LEAST_PROBABILITY: Final = 0.95
"""P(best) that a promoted arm must have."""


def _holdback_cycles(launching: Launching) -> int:
    return 0 if launching.launch.holdback is None else launching.launch.holdback.cycles


def _holds(look: Look, arm_id: str) -> Iterator[Hold]:
    launching = look.launching
    arm = launching.arm(arm_id)
    if arm.state is not ArmState.WAITING and arm.current is None:
        return
    if not look.is_running:
        yield Hold(cause=HoldCause.PAUSED)
    if look.is_clock_doubted:
        yield Hold(cause=HoldCause.CLOCK)
    if arm.hold is not None:
        yield Hold(cause=HoldCause.OPERATOR, detail=f"{arm.hold.actor}: {arm.hold.reason}")
    if look.silence is not None:
        yield Hold(cause=HoldCause.NO_DATA, lasted=look.silence)
    if arm.current is not None:
        yield from _holds_by_facts(look, arm_id)
    yield from _holds_by_rules(look, arm_id)


def _holds_by_facts(look: Look, arm_id: str) -> Iterator[Hold]:
    arm, figures = look.launching.arm(arm_id), look.figures.get(arm_id, ArmFigures())
    if look.is_alarming:
        yield Hold(cause=HoldCause.SAMPLE_RATIO, skewed=look.skewed)
    for finding in look.harmed.get(arm_id, ()):
        yield Hold(cause=HoldCause.GUARDRAIL, metric=finding.metric)
    for finding in look.signals.get(arm_id, ()):
        yield Hold(cause=HoldCause.SIGNAL, metric=finding.metric)
    if (
        look.silence is None
        and figures.decisions
        and figures.covered > look.window
        and _lacks_outcomes(arm, figures)
    ):
        yield Hold(cause=HoldCause.NO_DATA, detail=_what_came(figures))
    most = None if arm.current is None else arm.current.stage.maximum_duration
    if most is not None and figures.covered >= most and not look.has_open_gates(arm_id):
        yield Hold(cause=HoldCause.INCONCLUSIVE)


def _lacks_outcomes(arm: ArmLaunch, figures: ArmFigures) -> bool:
    """Whether too few outcomes came in to judge an arm: none, or of a shadow fewer than it asks for."""
    if figures.mirrored is None or arm.current is None:
        return not figures.outcomes
    return figures.mirrored < arm.current.stage.minimum_mirrored


def _what_came(figures: ArmFigures) -> str:
    if not figures.mirrored:
        return "no outcome has come in for it"
    return f"outcomes have come in for only {100 * figures.mirrored:.1f} % of its shadow decisions"


def _holds_by_rules(look: Look, arm_id: str) -> Iterator[Hold]:
    """Yield what the rules of the next move say, once every gate is open."""
    if not look.has_open_gates(arm_id):
        return
    arm = look.launching.arm(arm_id)
    if arm.current is not None and arm.current.stage.approval and not arm.is_approved:
        yield Hold(cause=HoldCause.APPROVAL)
        return
    if arm.state is ArmState.BANDIT and look.launching.launch.former_champion is not None:
        yield Hold(cause=HoldCause.HOLDBACK, detail=look.launching.launch.former_champion)
        return
    move = moves.promoted if arm.state is ArmState.BANDIT else moves.advanced
    try:
        move(look.launching, arm_id, Occasion(at=look.at, revision=0, actor=""))
    except NoRoomError as error:
        yield Hold(cause=HoldCause.ROOM, detail=error.rule)
    except MoveRefusedError:
        return


def is_silent(figures: ArmFigures, window: timedelta) -> bool:
    """True if an arm has had no outcome where chance would have given it some, in time."""
    if figures.covered <= window:
        return False
    if figures.mirrored is not None:
        return figures.mirrored == 0 and figures.decisions >= LEAST_EXPECTED
    return figures.outcomes == 0 and figures.expected_outcomes >= LEAST_EXPECTED
