"""The gate, in the table `compatibility`: what an earlier release can't read waits until no server is of it.

A feature that changes what the tables hold, beyond what old code ignores, is a `Feature`. Code that is
about to write something of it calls `require_feature` in the transaction of that write. The first use is
refused, naming the servers, while a live writer is older; otherwise the same transaction shuts the gate:

- `compatibility` says from which schema on code may run: an older server that is started now does not start.
- `format` of `epochs` and `configurations` loses its default on PostgreSQL. Code from before 0.3.0 does not
  name that column, so a server of it that was frozen through all this, and wakes up, still serves and takes
  rewards, and can insert neither an epoch nor a revision.
- Code from 0.3.0 on calls `require_current` before it inserts either, and so keeps itself to the same.

A new key inside an arm, a metric or the limits of an experiment's document is a feature, too, since code
before 0.3.0 fails on it; see `server.store.declaration_json`.
"""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, text, update

from server.store.dialect import Dialect
from server.store.errors import OlderServersError, OutdatedError
from server.store.records import WriterState
from server.store.tables import writers
from server.store.tables.schema import HEAD, compatibility
from server.version import release_of

FORMAT: Final = 1
"""What this code writes to `format`: 0 is of code that does not know the column."""

_BEFORE_CODES: Final = "0.2.0"
"""What a writer without a version is taken for: the last release that stored none."""


class Feature(NamedTuple):
    """Something that code before a release can't read.

    Attributes:
        name: What it is, as errors say it.
        release: The first release that reads it.
        schema: The schema of that release.
    """

    name: str
    release: str
    schema: str


def require_feature(connection: Connection, dialect: Dialect, feature: Feature, now: datetime) -> None:
    """Make sure that a feature may be used in this transaction, and shut the gate at its first use.

    Args:
        connection: Inside a transaction that writes.
        dialect: Its database.
        feature: What is about to be written.
        now: The time, where the database has no clock of its own.

    Raises:
        OlderServersError: A live server could not read it; nothing was changed.
    """
    if _is_open(connection, feature):
        return
    if dialect.is_shared:
        older = find_older(connection, feature, dialect.read_clock(connection, now))
        if older:
            raise OlderServersError(feature.name, feature.release, older)
        # Never waiting: who waits for such a lock holds up every poll behind it, or waits in a circle.
        connection.execute(text("LOCK TABLE configurations, epochs IN ACCESS EXCLUSIVE MODE NOWAIT"))
        connection.execute(select(compatibility).with_for_update(nowait=True))
        for table in ("configurations", "epochs"):
            connection.execute(text(f"ALTER TABLE {table} ALTER COLUMN format DROP DEFAULT"))
    connection.execute(
        update(compatibility)
        .where(compatibility.c.oldest_code < feature.schema)
        .values(oldest_code=feature.schema)
    )


def _is_open(connection: Connection, feature: Feature) -> bool:
    oldest = connection.execute(select(compatibility.c.oldest_code)).scalar()
    return oldest is not None and oldest >= feature.schema


def find_older(connection: Connection, feature: Feature, now: int) -> list[str]:
    """The live servers that can't read a feature, described for the operator who has to replace them."""
    live = [each for each in writers.read_all(connection) if _is_live(each, now)]
    return [_describe(each, now) for each in live if _release_of(each) < release_of(feature.release)]


def require_current(connection: Connection) -> None:
    """Raise OutdatedError if a feature is in use that this code does not know.

    Call it before inserting an epoch or a revision: servers of the newer release read both, and they would be
    made without what this one can't read. It holds until the transaction ends.
    """
    query = select(compatibility.c.oldest_code).with_for_update(read=True)
    oldest = connection.execute(query).scalar()
    if oldest is not None and oldest > HEAD:
        raise OutdatedError(
            f"a newer release is in service, which needs code of schema {oldest} or later, and this server "
            f"is of {HEAD}: it goes on serving and taking rewards, but can change no experiment and begin no "
            "epoch; replace it with the newer release"
        )


def _is_live(writer: WriterState, now: int) -> bool:
    return writer.slot is not None and writer.seen_at > now - writers.EXPIRY // timedelta(microseconds=1)


def _release_of(writer: WriterState) -> tuple[int, ...]:
    return release_of(writer.code or _BEFORE_CODES)


def _describe(writer: WriterState, now: int) -> str:
    version = writer.code or f"{_BEFORE_CODES} or older"
    seconds = max(now - writer.seen_at, 0) // 1_000_000
    return f"{version} in slot {writer.slot} (run {writer.incarnation.hex()[:8]}, seen {seconds} s ago)"
