"""What became of a launch, from its events."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.json_format import MessageToDict

from bandit.v1 import event_pb2
from benchmarks.launch.cases import CHALLENGER, Case
from benchmarks.launch.story import Story

_DAY: Final = timedelta(days=1)
_ENDS: Final = frozenset({"succeeded", "rolled_back", "retired", "inconclusive", "withdrawn"})
_SILENT: Final = frozenset({"created", "started", "blocked"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One event of a launch.

    Attributes:
        day: When, in days since the start.
        arm: The arm.
        what: The step or state that it entered; `look` at the end of a cycle.
        why: The reason, with its figures.
        decisions: Decisions until then.
        of_challenger: Those for the challenger.
    """

    day: float
    arm: str
    what: str
    why: str
    decisions: int
    of_challenger: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a launch.

    Attributes:
        case: The launch.
        happened: Its events, in order.
        shares: The shares at the end.
        seconds: How long the simulation took.
    """

    case: Case
    happened: Sequence[Happened]
    shares: dict[str, float]
    seconds: float

    @property
    def end(self) -> str:
        """How the challenger's launch ended; empty if it did not."""
        found = [each.what for each in self.happened if each.arm == CHALLENGER and each.what in _ENDS]
        return found[-1] if found else ""

    @property
    def is_expected(self) -> bool:
        """True if it ended as it should, with all traffic at one arm."""
        return self.end == self.case.expected and max(self.shares.values()) == 1


async def outcome_of(case: Case, story: Story, seconds: float) -> Outcome:
    """Return what became of a launch."""
    happened = [_happened(event, story) for event in await story.events() if event.kind not in _SILENT]
    shares = dict((await story.experiment()).epoch.shares)
    return Outcome(case=case, happened=happened, shares=shares, seconds=seconds)


def _happened(event: event_pb2.Event, story: Story) -> Happened:
    at = event.time.ToDatetime(tzinfo=story.began_at.tzinfo)
    counts = story.counts_at.get(at, Counter())
    figures = MessageToDict(event.figures)
    return Happened(
        day=(at - story.began_at) / _DAY,
        arm=event.arm,
        what=str(figures["to"]) if event.kind == "stage" else event.kind,
        why=event.reason,
        decisions=counts.total(),
        of_challenger=counts[CHALLENGER],
    )
