"""The clock in a SQL database; see `ClockStore` for the contract."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import Connection
from typing_extensions import override

from server.store.columns.times import from_micros
from server.store.contract.clock import ClockStore
from server.store.maintenance import clock_repair
from server.store.records import Action, ClockBeat, ClockReading, ClockRepair
from server.store.sql_store.part import SqlPart
from server.store.tables import audit, clock, seals


class SqlClockStore(SqlPart, ClockStore):
    """Keeps the clock that servers share."""

    @override
    def read_clock(self, now: datetime, trust_after: timedelta) -> ClockReading:
        return self._dialect.read(lambda c: clock.read(c, self._dialect.read_clock(c, now), trust_after))

    @override
    def beat_clock(self, beat: ClockBeat, trust_after: timedelta) -> None:
        self._dialect.write(lambda c: clock.beat(c, beat, trust_after))

    @override
    def accept_clock(self, now: datetime, *, reason: str, caller: str) -> datetime:
        def accept(connection: Connection) -> datetime:
            at = self._dialect.read_clock(connection, now)
            clock.accept(connection, at, reason, caller)
            return from_micros(at)

        return self._dialect.write(accept)

    @override
    def repair_clock(self, now: datetime, *, reason: str, caller: str) -> ClockRepair:
        with self._dialect.writing(is_long=True) as connection:
            at = from_micros(self._dialect.read_clock(connection, now))
            repair = ClockRepair(
                n_seals=seals.lower_seals(connection),
                n_caps=clock_repair.cap_epochs(connection, at, self._dialect.version),
                n_instants=clock_repair.reset_instants(connection, at),
            )
            after = json.dumps(asdict(repair) | {"reason": reason})
            audit.write(connection, at, caller, Action.REPAIR_CLOCK, after=after)
            return repair
