"""The tables. The migrations build them; `tests/store` holds the two to be the same.

Instants are microseconds since 1970, ids of decisions are 16 bytes in time order. Values are quanta, and sums
have rests, as `server.store.columns.exact_sums` explains.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.types import TypeEngine

from bandit.facts import Tally
from server.store.columns.exact_sums import REST_COLUMNS

HEAD: Final = "0016"
"""The newest migration; `tests/store` holds it to be Alembic's head. Revisions are numbers of four digits."""

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")
_Name = String(127).with_variant(String(127, collation="C"), "postgresql")
"""Pages are in the order of names, which is that of their characters, whatever the database's language."""


def key_column(name: str, kind: type[TypeEngine[int]]) -> Column[int]:
    """A whole number of a primary key."""
    return Column(name, kind, primary_key=True, autoincrement=False)


def _fact_key() -> tuple[Column[int], ...]:
    """What every fact is counted by."""
    return (
        key_column("experiment", BigInteger),
        key_column("epoch", Integer),
        key_column("segment", SmallInteger),
        key_column("arm", Integer),
        key_column("basis", SmallInteger),
    )


def _tally() -> Iterator[Column[int]]:
    """The sums of outcomes, as `server.store.columns.exact_sums` has them."""
    for name in Tally._fields:
        yield Column(name, BigInteger, nullable=False)
    for name in REST_COLUMNS:
        yield Column(name, BigInteger, nullable=False, server_default=text("0"))


signing_keys = Table(
    "signing_keys",
    metadata,
    key_column("id", SmallInteger),
    Column("secret", LargeBinary, nullable=False),
    Column("is_signing", Boolean, nullable=False),
    Column("signs_at", BigInteger),
)
"""The newest key is the one that signs, from `signs_at` on, or always without."""

audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("caller", String(127), nullable=False),
    Column("action", String(32), nullable=False),
    Column("experiment", _Name, index=True),
    Column("before", Text),
    Column("after", Text),
    sqlite_autoincrement=True,
)
"""A row for each change that a caller made, written in the transaction of the change."""

writers = Table(
    "writers",
    metadata,
    Column("incarnation", LargeBinary, primary_key=True),
    Column("slot", SmallInteger, unique=True),
    Column("sequence", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("code", String(32)),
    Column("flushed_ms", BigInteger),
    Column("ended_at", BigInteger),
)
"""One row for each run of a server. A writer that lost its slot keeps its row: whether a flush in doubt was
added stands in it. `code` is the version of its code, null before 0.3.0. `flushed_ms` is a time, as ids have
it, before which no decision was made that a later flush carries. Once `ended_at` is there, no flush is added
any more."""

ended_runs = Table(
    "ended_runs",
    metadata,
    key_column("run", Integer),
    Column("incarnation", LargeBinary, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("flushed_ms", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("next_id", LargeBinary),
    Column("last_id", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""The runs that ended without saying that all their decisions are counted, by the 24 bits that ids have of
them: `sequence` was the last flush. Outcomes of later decisions are moved in the log from `next_id` to
`last_id`, and are all moved once `next_id` is null."""

experiments = Table(
    "experiments",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("name", _Name, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("version", BigInteger, nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("concluded_at", BigInteger),
    Column("deleted_at", BigInteger),
    Column("event_sequence", BigInteger, nullable=False, server_default=text("0")),
    sqlite_autoincrement=True,
)
"""`version` orders the changes of all experiments and their epochs, for loading only what changed.
`event_sequence` is the number of the last event, which outlives the event."""

events = Table(
    "events",
    metadata,
    key_column("experiment", BigInteger),
    key_column("sequence", BigInteger),
    Column("version", BigInteger, nullable=False, index=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("arm", String(128)),
    Column("actor", String(127), nullable=False),
    Column("request_id", String(128)),
    Column("revision", Integer, nullable=False),
    Column("epoch", Integer),
    Column("reason", Text, nullable=False),
    Column("figures", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What happened to experiments, inserted once and never changed. `version` orders those of all experiments;
it never falls from one event of an experiment to the next. `server.store.tables.events` says why."""

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("cursor", Text, nullable=False),
)
"""Up to where the events for an endpoint stand in `deliveries`, as JSON."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("endpoint", String(63), primary_key=True),
    key_column("experiment", BigInteger),
    key_column("sequence", BigInteger),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("last_error", Text),
    sqlite_with_rowid=False,
)
"""A row for each event that a webhook endpoint has not taken."""

configurations = Table(
    "configurations",
    metadata,
    key_column("experiment", BigInteger),
    key_column("revision", Integer),
    Column("state", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("format", SmallInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
"""Every revision that ever was, so that an epoch can be explained by what it was made from.
`server.store.tables.gate` says what `format` is for, here and in `epochs`."""

epochs = Table(
    "epochs",
    metadata,
    key_column("experiment", BigInteger),
    key_column("segment", SmallInteger),
    key_column("number", Integer),
    Column("nonce", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("shares", Text, nullable=False),
    Column("warming_up", Text, nullable=False),
    Column("means", Text, nullable=False),
    Column("format", SmallInteger, nullable=False, server_default="0"),
    Column("is_cap", Boolean, nullable=False, server_default=false()),
    Column("shadows", Text),
    sqlite_with_rowid=False,
)

decision_facts = Table(
    "decision_facts",
    metadata,
    *_fact_key(),
    key_column("slot", SmallInteger),
    Column("decisions", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

outcome_facts = Table(
    "outcome_facts",
    metadata,
    *_fact_key(),
    key_column("metric", SmallInteger),
    key_column("slot", SmallInteger),
    *_tally(),
    sqlite_with_rowid=False,
)

rewards = Table(
    "rewards",
    metadata,
    Column("decision", LargeBinary, primary_key=True),
    key_column("metric", SmallInteger),
    Column("experiment", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("segment", SmallInteger, nullable=False),
    Column("arm", Integer, nullable=False),
    Column("basis", SmallInteger, nullable=False),
    Column("quanta", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("is_late", Boolean, nullable=False),
    Column("is_apart", Boolean, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("replaced_quanta", BigInteger),
    Column("unit", BigInteger),
    Column("value", Double),
    Column("steps", BigInteger),
    Column("replaced_steps", BigInteger),
    sqlite_with_rowid=False,
)
"""The reward log, a row for each decision and metric. `unit` is the hash of a policy decision's unit where
units are counted, else null.

`value` is what was posted, and `steps` what it counts as. Both are null where `quanta` says it: for a metric
of whole numbers that does not clip, and in rows of servers of version 0.2. A revision by such a server leaves
both as they were, which shows where `steps` rounds to other quanta. `replaced_quanta` and `replaced_steps`
are those before the revision."""

rewards_by_unit = Index(
    "rewards_by_unit",
    rewards.c.experiment,
    rewards.c.segment,
    rewards.c.unit,
    rewards.c.metric,
    rewards.c.received_ms,
    rewards.c.quanta,
    sqlite_where=rewards.c.unit.is_not(None),
    postgresql_where=rewards.c.unit.is_not(None),
)
"""A unit's outcomes are summed from the log when they are read: which of them came within the window of its
first decision is known only when that is, and a flush that is still on its way may move it."""

units = Table(
    "units",
    metadata,
    key_column("experiment", BigInteger),
    key_column("segment", SmallInteger),
    key_column("unit", BigInteger),
    Column("first_ms", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("arm", Integer, nullable=False),
    Column("decisions", BigInteger, nullable=False),
    Column("first_id", LargeBinary),
    Column("second_id", LargeBinary),
    Column("third_id", LargeBinary),
    sqlite_with_rowid=False,
)
"""One row a unit of the experiments that count units: its first policy decision, and how many it made.

`first_id`, `second_id` and `third_id` are the smallest ids of its decisions, sorted, null where there are
fewer. Servers before 0.3.0 count decisions without noting their ids."""

unit_sums = Table(
    "unit_sums",
    metadata,
    key_column("experiment", BigInteger),
    key_column("segment", SmallInteger),
    key_column("unit", BigInteger),
    key_column("metric", SmallInteger),
    Column("n", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("total_low", BigInteger, nullable=False, server_default=text("0")),
    Column("total_high", BigInteger, nullable=False, server_default=text("0")),
    sqlite_with_rowid=False,
)
"""The outcomes of units whose rows have left the log: number and sum of those that came within the window."""

sealed_steering = Table(
    "sealed_steering",
    metadata,
    *_fact_key(),
    key_column("metric", SmallInteger),
    *_tally(),
    sqlite_with_rowid=False,
)
"""The sums of the outcomes with which units steer and whose rows have left the log, by the epoch and arm of
the unit's first decision."""

unit_groups = Table(
    "unit_groups",
    metadata,
    key_column("experiment", BigInteger),
    key_column("unit_group", SmallInteger),
    key_column("slot", SmallInteger),
    Column("decisions", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Policy decisions with a unit, by a byte of the unit's hash: their spread shows how often units repeat."""

seals = Table(
    "seals",
    metadata,
    key_column("experiment", BigInteger),
    key_column("segment", SmallInteger),
    Column("epoch", Integer, nullable=False),
    Column("before", LargeBinary, nullable=False),
    Column("fence", BigInteger),
    Column("sealed_at", BigInteger, nullable=False),
    Column("n_apart", BigInteger, nullable=False),
    Column("purged_before", LargeBinary),
    sqlite_with_rowid=False,
)
"""Retention watermarks: the log rejects outcomes of every epoch up to `epoch`; and of answers that belong to
no epoch's shares (fallbacks, rows kept apart), of every decision below `before`. `server.store.tables.seals`
says what `fence` is. `n_apart` counts the rows kept apart that were purged; `purged_before` is beyond the
last id of such a row or of a fallback that was purged, or null if that was not noted."""

sealed_facts = Table(
    "sealed_facts",
    metadata,
    *_fact_key(),
    key_column("metric", SmallInteger),
    *_tally(),
    sqlite_with_rowid=False,
)
"""The sums of the outcomes that were purged from the log: outcome facts = these + the fold of the log."""

clock = Table(
    "clock",
    metadata,
    key_column("number", SmallInteger),
    Column("generation", BigInteger, nullable=False),
    Column("mark", BigInteger),
    Column("running", BigInteger, nullable=False),
    Column("beat_at", BigInteger),
    Column("doubt", BigInteger),
    Column("doubted_at", BigInteger),
    sqlite_with_rowid=False,
)
"""One row, with number 1. `generation` grows when an operator accepts the clock. `mark` is the latest instant
that is known to have passed; `running` is how long servers have run free of doubt, in microseconds, no moment
counted twice, and `beat_at` up to when that was added. `doubt` is by how much the clock that is read differed
from service time when a server last said so, at `doubted_at`; null once the two agree."""

clock_marks = Table(
    "clock_marks",
    metadata,
    key_column("running", BigInteger),
    Column("mark", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The mark by time of running: an instant is trusted once servers have run for long since it was marked."""

compatibility = Table("compatibility", metadata, Column("oldest_code", String(32), primary_key=True))
"""One row: the head revision of the oldest code that may run on this schema."""
