"""Rewards: what is recorded of a decision, and what became of it."""

import enum
from typing import NamedTuple

from bandit.decision_id import Basis


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
