"""The audit in SQL: a row for each change that a caller made, in the transaction of the change."""

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select
from sqlalchemy.sql.elements import ColumnElement

from server.store.columns.times import from_micros, to_micros
from server.store.records import Action, AuditEntry, KeyRing
from server.store.tables.schema import audit


def write(
    connection: Connection,
    now: datetime,
    caller: str,
    action: Action,
    *,
    experiment: str | None = None,
    before: str | None = None,
    after: str | None = None,
) -> None:
    """Keep one entry."""
    connection.execute(
        insert(audit).values(
            at=to_micros(now), caller=caller, action=action, experiment=experiment, before=before, after=after
        )
    )


def describe_keys(ring: KeyRing) -> str:
    """A ring as an entry holds it: ids and times, and no secret."""
    keys = {str(key): at.isoformat() for key, at in sorted(ring.signs_at.items()) if at.timestamp() > 0}
    body = {"keys": sorted(ring.secrets), "newest": ring.signing_key, "signs_at": keys}
    return json.dumps(body, separators=(",", ":"))


def list_page(
    connection: Connection,
    before: int | None,
    limit: int,
    experiment: str | None,
    namespaces: Collection[str] | None,
) -> list[AuditEntry]:
    """At most `limit` entries, the newest first; see `Store.list_audit_entries`."""
    query = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.number < before)
    if experiment is not None:
        query = query.where(audit.c.experiment == experiment)
    query = within(query, audit.c.experiment, namespaces)
    return [_to_entry(row) for row in connection.execute(query)]


def within(query: Select[Any], name: ColumnElement[Any], namespaces: Collection[str] | None) -> Select[Any]:
    """The query for names in one of these namespaces; for all of them if None."""
    if namespaces is None:
        return query
    return query.where(or_(*(is_within(name, namespace) for namespace in namespaces)))


def is_within(name: ColumnElement[Any], namespace: str) -> ColumnElement[bool]:
    """Whether a name is in a namespace, as a range of names."""
    after_slash = chr(ord("/") + 1)
    return (name > f"{namespace}/") & (name < f"{namespace}{after_slash}")


def _to_entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        number=row.number,
        at=from_micros(row.at),
        caller=row.caller,
        action=row.action,
        experiment=row.experiment,
        before=row.before,
        after=row.after,
    )
