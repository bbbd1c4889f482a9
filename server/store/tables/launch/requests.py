"""Requests of verbs in SQL: kept once they are carried out, so that a repeated one moves nothing twice."""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from server.store.columns.times import to_micros
from server.store.contract.launches import REQUESTS_KEPT
from server.store.records import VerbRequest
from server.store.tables.launch.schema import requests


def find(connection: Connection, caller: str, request_id: str) -> VerbRequest | None:
    """The request of this caller and id, if it was carried out."""
    row = connection.execute(
        select(requests).where(requests.c.caller == caller, requests.c.request_id == request_id)
    ).one_or_none()
    return (
        None if row is None else VerbRequest(caller=row.caller, request_id=row.request_id, digest=row.digest)
    )


def keep(connection: Connection, request: VerbRequest, now: datetime) -> bool:
    """Remember a request, and forget those that are past their time.

    False if it is remembered already: another server carried it out meanwhile, and this transaction must not.
    """
    connection.execute(delete(requests).where(requests.c.at < to_micros(now - REQUESTS_KEPT)))
    try:
        connection.execute(
            insert(requests).values(
                caller=request.caller,
                request_id=request.request_id,
                digest=request.digest,
                at=to_micros(now),
            )
        )
    except IntegrityError:
        return False
    return True
