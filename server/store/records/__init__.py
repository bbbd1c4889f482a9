"""The values that go into a store and come out of it: frozen, and free of rows and of SQL.

Each module has a subject; callers import the names from here.
"""

from server.store.records.audit import ANYONE, Action, AuditEntry
from server.store.records.bounds import Bounds
from server.store.records.clock import ClockBeat, ClockReading, ClockRecord, ClockRepair
from server.store.records.deliveries import Delivery, DeliveryState
from server.store.records.epochs import EpochKey, EpochTerms
from server.store.records.events import Event, EventCursor, EventKind, EventPage, NewEvent, SeenEvent
from server.store.records.experiments import Changes, ExperimentRecord, LiveExperiment, State
from server.store.records.facts import ExperimentFacts, Flush, ReportFacts, Sightings
from server.store.records.history import History, LoggedOutcome
from server.store.records.launches import Heard, StoredLook, VerbRequest
from server.store.records.leases import Lease
from server.store.records.ledger import Progress, Rebuilt
from server.store.records.rewards import (
    Conflicting,
    Expired,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    Refused,
    Revoked,
    RewardEntry,
    RewardVerdict,
    Sealed,
)
from server.store.records.seals import PurgeStep, Seal, SealedEpochs, SealSummary
from server.store.records.signing_keys import KeyRing
from server.store.records.writers import EndedRun, MoveStep, WriterState

__all__ = [
    "ANYONE",
    "Action",
    "AuditEntry",
    "Bounds",
    "Changes",
    "ClockBeat",
    "ClockReading",
    "ClockRecord",
    "ClockRepair",
    "Conflicting",
    "Delivery",
    "DeliveryState",
    "EndedRun",
    "EpochKey",
    "EpochTerms",
    "Event",
    "EventCursor",
    "EventKind",
    "EventPage",
    "ExperimentFacts",
    "ExperimentRecord",
    "Expired",
    "Flush",
    "Heard",
    "History",
    "KeyRing",
    "Lease",
    "LiveExperiment",
    "LoggedOutcome",
    "MoveStep",
    "NewEvent",
    "OutcomeEntry",
    "OutcomeResult",
    "Progress",
    "PurgeStep",
    "Rebuilt",
    "Recorded",
    "Refused",
    "ReportFacts",
    "Revoked",
    "RewardEntry",
    "RewardVerdict",
    "Seal",
    "SealSummary",
    "Sealed",
    "SealedEpochs",
    "SeenEvent",
    "Sightings",
    "State",
    "StoredLook",
    "VerbRequest",
    "WriterState",
]
