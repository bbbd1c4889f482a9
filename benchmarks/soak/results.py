"""What a soak collects while it runs."""

from dataclasses import dataclass, field
from typing import Literal

from benchmarks.soak.faults import FaultRecord

Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The service's memory, descriptors and log size at a moment.

    Attributes:
        at_seconds: Since the start.
        resident_mib: Resident memory of the largest server.
        n_descriptors: Open descriptors in the server with the most.
        wal_mib: Size of SQLite's write-ahead log.
    """

    at_seconds: float
    resident_mib: float
    n_descriptors: int
    wal_mib: float


@dataclass(slots=True)
class Soak:
    """The results of a soak.

    Attributes:
        database: Its kind.
        seed: The seed of everything that was drawn.
        n_replicas: Servers.
        has_wrong_clocks: Whether clocks are set among the faults.
        seconds: How long the load lasted.
        happened: Faults, in order.
        samples: Samples, in order.
    """

    database: Database
    seed: int
    n_replicas: int
    has_wrong_clocks: bool
    seconds: float = 0.0
    happened: list[FaultRecord] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
