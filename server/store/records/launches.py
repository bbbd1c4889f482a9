"""What is kept of the looks at a launch, and of the requests that moved one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bandit.launch.claims import LaunchClaim
from bandit.launch.gates import Gate, Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """When outcomes of an experiment last came in, and what had been counted by then.

    Attributes:
        at: The first look that saw the last of them.
        metric: Number of the goal, of which they are.
        n_outcomes: Outcomes of the goal so far, of policy decisions.
        n_decisions: Policy decisions at that look.
    """

    at: datetime
    metric: int
    n_outcomes: int
    n_decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLook:
    """The last look at one arm of a launch.

    Attributes:
        at: When.
        entry: The arm's visit at that time; times of an earlier visit are not carried over.
        covered: Cycle since the visit began, from 0, to the time covered in it.
        holds: What kept the arm from moving, sorted.
        figures: What the look rested on, by name.
        sentence: Where the arm was, in words.
        next: What came next; empty if nothing did.
        next_at: The earliest time of that; None if it rested on traffic or on a person.
        causes: What kept the arm from moving, in full.
        gates: What its step asked for.
        claims: What is claimed of it, and how far the evidence was.
        heard: When outcomes of the experiment last came in; None if none ever did.
    """

    at: datetime
    entry: int
    covered: Mapping[int, timedelta] = field(default_factory=dict)
    holds: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    sentence: str = ""
    next: str = ""
    next_at: datetime | None = None
    causes: tuple[Hold, ...] = ()
    gates: tuple[Gate, ...] = ()
    claims: tuple[LaunchClaim, ...] = ()
    heard: Heard | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbRequest:
    """A request of a verb, which is carried out once.

    Attributes:
        caller: Who sent it.
        request_id: The id that the caller gave it.
        digest: SHA-256 of its arguments.
    """

    caller: str
    request_id: str
    digest: bytes
