"""Cost of flushing decision counts: `python -m benchmarks.flushes`.

Counts the decisions of a second over many experiments, and adds them to a store on SQLite and to one on
PostgreSQL, durably, as the server does once a second. Alternating rounds do the same through named parameters
of SQLAlchemy. Reported is the least of all rounds, which noise only adds to: the processor time of this
process, which competes with Choose, and the time that rewards wait for the writer thread.
"""

import argparse
import random
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, make_url, text
from typing_extensions import override

from bandit.decision_id import Basis, DecisionTerms
from bandit.experiment import Arm
from benchmarks.harness.postgresql import PostgresqlProcess
from server.services.choose.decision_counter import DecisionCounter
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import Offer, Reason
from server.store.dialect import Dialect, RowsStatement
from server.store.postgresql.dialect import PostgresqlDialect
from server.store.records import Flush
from server.store.sql_store import SqlStore
from server.store.sqlite.dialect import SqliteDialect

_N_ARMS: Final = 2
_SEED: Final = 11


class NamedSqlite(SqliteDialect):
    """SQLite with rows as named parameters, which SQLAlchemy processes one by one."""

    @override
    def execute_rows(
        self, connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        return execute_named(connection, statement, rows)


class NamedPostgresql(PostgresqlDialect):
    """PostgreSQL with rows as named parameters, which SQLAlchemy processes one by one."""

    @override
    def execute_rows(
        self, connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
    ) -> Sequence[Any]:
        return execute_named(connection, statement, rows)


def execute_named(
    connection: Connection, statement: RowsStatement, rows: Sequence[tuple[Any, ...]]
) -> Sequence[Any]:
    """Run a statement that returns no rows over rows of values, as `Dialect.execute_rows` would."""
    names = [column.name for column in statement.columns]
    sql = statement.sql.format(rows=f"VALUES (:{', :'.join(names)})")
    if rows:
        connection.execute(text(sql), [dict(zip(names, row, strict=True)) for row in rows])
    return ()


class Second:
    """The decisions of a second, spread evenly over experiments of two arms, each of a unit of its own.

    Args:
        n_experiments: How many experiments are busy.
        n_calls: Decisions a second.
        epoch: Number of their epochs; decisions of the first are counted by part.
    """

    def __init__(self, n_experiments: int, n_calls: int, epoch: int) -> None:
        offers = [
            Offer(
                Arm(id=f"v{arm}"), Reason.POLICY, DecisionTerms(number + 1, epoch, 1, 0, arm, Basis.POLICY, 1)
            )
            for number in range(n_experiments)
            for arm in range(_N_ARMS)
        ]
        chance = random.Random(_SEED)
        self._calls = [
            (offers[number % len(offers)], chance.randbytes(16), chance.randbytes(6))
            for number in range(n_calls)
        ]

    def count_on(self, counter: DecisionCounter) -> None:
        """Count them, as Choose does."""
        for offer, decision, mark in self._calls:
            counter.count(offer, decision, mark)


class Stage:
    """A store, the counter that is flushed to it, and the least that its flushes took, in seconds."""

    def __init__(self, dialect: Dialect) -> None:
        self.store = SqlStore(dialect, is_ready=False)
        self.store.prepare(may_migrate=True)
        incarnation = secrets.token_bytes(16)
        self._counter = DecisionCounter(
            Writer(incarnation, self.store.claim_slot(incarnation, datetime.now(UTC)))
        )
        self.taken, self.processor, self.on_the_loop = (float("inf"),) * 3

    def flush(self, second: Second) -> Flush:
        """Count and flush the decisions of a second."""
        second.count_on(self._counter)
        began_at = time.perf_counter()
        unsent = self._counter.next_flush()
        self.on_the_loop = min(self.on_the_loop, time.perf_counter() - began_at)
        if unsent is None:
            raise RuntimeError("nothing was counted")
        began_at, processor_at = time.perf_counter(), time.thread_time()
        flush = unsent.send(self.store)
        self.processor = min(self.processor, time.thread_time() - processor_at)
        self.taken = min(self.taken, time.perf_counter() - began_at)
        self._counter.settle(flush)
        return flush


@contextmanager
def open_stages(folder: Path) -> Iterator[Mapping[str, Stage]]:
    """Open a store of each kind; they are closed after the block."""
    postgresql = PostgresqlProcess(folder / "postgresql")
    try:
        first, second = (make_url(postgresql.create_database()) for _ in range(2))
        dialects: dict[str, Dialect] = {
            "SQLite, named": NamedSqlite(_file(folder / "named.db"), is_owner=True),
            "SQLite": SqliteDialect(_file(folder / "rows.db"), is_owner=True),
            "PostgreSQL, named": NamedPostgresql(first),
            "PostgreSQL": PostgresqlDialect(second),
        }
        stages = {name: Stage(dialect) for name, dialect in dialects.items()}
        yield stages
        for stage in stages.values():
            stage.store.close()
    finally:
        postgresql.stop()


def _file(path: Path) -> URL:
    return make_url(f"sqlite:///{path}")


def measure(stages: Mapping[str, Stage], second: Second, n_rounds: int) -> None:
    """Print what a flush takes in each store."""
    n_rows = 0
    for _ in range(n_rounds):
        for stage in stages.values():
            flush = stage.flush(second)
            n_rows = len(flush.counts) + sum(map(len, flush.groups.values()))
    print(f"{n_rows:,} counts by key or group in a flush, {n_rounds} alternating rounds, the least of each")
    for name, stage in stages.items():
        print(
            f"{name:20} {stage.processor * 1e3:7.2f} ms of a processor, {stage.taken * 1e3:7.2f} ms in all; "
            f"before that {stage.on_the_loop * 1e3:5.2f} ms on the event loop"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flushes", description=__doc__)
    parser.add_argument("--experiments", type=int, default=2_000, help="busy experiments (2000)")
    parser.add_argument("--calls", type=int, default=20_000, help="decisions a second (20000)")
    parser.add_argument("--epoch", type=int, default=2, help="number of their epochs (2); 1 counts by part")
    parser.add_argument("--rounds", type=int, default=10, help="alternating rounds (10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_stages(Path(folder)) as stages:
        measure(stages, Second(options.experiments, options.calls, options.epoch), options.rounds)


if __name__ == "__main__":
    main()
