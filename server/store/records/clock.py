"""The clock: what servers read of it, say of it, and repair."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRecord:
    """The clock as the database keeps it.

    Attributes:
        generation: Grows when an operator accepts the clock.
        mark: The latest instant that is known to have passed; None before the first.
        trusted: The latest instant that anything irreversible may reach; None if there is none yet.
        running: How long servers have run free of doubt, no moment counted twice.
        beat_at: Service time when a server last said that it runs free of doubt.
        doubt: The clock that is read minus service time, as a server in doubt last said; None free of doubt.
        doubted_at: Service time when it said so.
    """

    generation: int
    mark: datetime | None
    trusted: datetime | None
    running: timedelta
    beat_at: datetime | None
    doubt: timedelta | None
    doubted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """The clock that servers go by, read once, with what the database keeps of it.

    Attributes:
        at: The database's time where servers share one, else this machine's.
        record: What the database keeps.
        last_seen: When anything last happened, as far as the database tells; None in an empty one.
    """

    at: datetime
    record: ClockRecord
    last_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockBeat:
    """What a server says of its clock now and then.

    Attributes:
        generation: The record's, as the server knows it; a beat of another one changes nothing.
        now: Service time.
        running: How long it has run free of doubt since its last beat.
        mark: The new mark, if it is later; None leaves it.
        doubt: The clock that is read minus service time; None free of doubt.
    """

    generation: int
    now: datetime
    running: timedelta
    mark: datetime | None
    doubt: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRepair:
    """What a repair changed.

    Attributes:
        n_seals: Seals that were lowered to how far the log is purged.
        n_caps: Experiments whose epochs in the future were ended by a cap.
        n_instants: Other instants in the future that were set to now.
    """

    n_seals: int
    n_caps: int
    n_instants: int
