"""The driver's own rate for the work of the ledger: the same rows, sums and COMMIT, without a service."""

import itertools
import os
import random
import sqlite3
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from typing import Final, TypeAlias

import psycopg

Row: TypeAlias = tuple[bytes, int, int, int, int, int, int, int, int, bool, bool, int]

_N_ARMS: Final = 2
_START_SECONDS: Final = 2.0
"""How long every process has to import what it needs and connect."""

_COLUMNS: Final = (
    "decision, metric, experiment, epoch, segment, arm, basis, "
    "quanta, revision, is_late, is_apart, received_ms"
)
_INSERT_SQLITE: Final = f"INSERT INTO rewards ({_COLUMNS}) VALUES {{rows}} ON CONFLICT DO NOTHING"  # noqa: S608
_TYPES: Final = [
    "bytea",
    "smallint",
    "bigint",
    "integer",
    "smallint",
    "integer",
    "smallint",
    "bigint",
    "bigint",
    "boolean",
    "boolean",
    "bigint",
]
_INSERT_POSTGRESQL: Final = (
    f"INSERT INTO rewards ({_COLUMNS}) SELECT * FROM unnest("  # noqa: S608 - no input
    + ", ".join(f"%b::{kind}[]" for kind in _TYPES)
    + ") ON CONFLICT DO NOTHING"
)
_SUM: Final = """
    INSERT INTO outcome_facts (experiment, epoch, segment, arm, basis, metric, slot,
                               n, total, squares, late_n, late_total, late_squares)
    VALUES ({values})
    ON CONFLICT (experiment, epoch, segment, arm, basis, metric, slot) DO UPDATE SET
        n = outcome_facts.n + excluded.n, total = outcome_facts.total + excluded.total,
        squares = outcome_facts.squares + excluded.squares
"""
_N_SUM_COLUMNS: Final = 13


def raw_rate(database: str, n_writers: int, group: int, seconds: float) -> float:
    """Return the rows a second that `n_writers` processes commit in groups of this size.

    Args:
        database: The URL of a database that has the schema.
        n_writers: Each has its own connection and slot; SQLite takes one.
        group: Rows in a transaction.
        seconds: The duration.
    """
    starts_at = time.time() + _START_SECONDS
    with ProcessPoolExecutor(n_writers, get_context("spawn")) as pool:
        futures = [
            pool.submit(_write, database, slot, group, starts_at, seconds) for slot in range(n_writers)
        ]
        return sum(future.result() for future in futures)


def _write(database: str, slot: int, group: int, starts_at: float, seconds: float) -> float:
    """Commit groups for `seconds`; return rows a second."""
    write = _write_sqlite if database.startswith("sqlite") else _write_postgresql
    groups = _groups(slot, group)
    commit = write(database, slot, groups)
    next(commit)
    time.sleep(max(0.0, starts_at - time.time()))
    began = time.perf_counter()
    n_groups = 0
    while time.perf_counter() - began < seconds:
        next(commit)
        n_groups += 1
    rate = n_groups * group / (time.perf_counter() - began)
    commit.close()
    return rate


def _groups(slot: int, group: int) -> Iterator[list[Row]]:
    """Yield rows of new decisions, their ids in order of time as the service's are."""
    generator = random.Random(slot)
    for number in itertools.count():
        now = time.time_ns() // 1_000_000
        yield [
            (
                now.to_bytes(6) + os.urandom(10),
                0,
                1,
                1,
                0,
                generator.randrange(_N_ARMS),
                0,
                row & 1,
                0,
                False,
                False,
                now,
            )
            for row in range(number, number + group)
        ]


def _sums(rows: list[Row], slot: int) -> list[tuple[int, ...]]:
    """Return what the rows add, one entry per arm."""
    sums: list[tuple[int, ...]] = []
    for arm in range(_N_ARMS):
        clicks = [row[7] for row in rows if row[5] == arm]
        sums.append((1, 1, 0, arm, 0, 0, slot, len(clicks), sum(clicks), sum(clicks), 0, 0, 0))
    return sums


def _write_sqlite(database: str, slot: int, groups: Iterator[list[Row]]) -> Generator[None, None, None]:
    """Commit one group at each step; the first step connects."""
    file = database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, isolation_level=None, cached_statements=256)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        yield
        for rows in groups:
            connection.execute("BEGIN IMMEDIATE")
            marks = ",".join(["(" + ",".join("?" * len(rows[0])) + ")"] * len(rows))
            connection.execute(_INSERT_SQLITE.format(rows=marks), tuple(itertools.chain.from_iterable(rows)))
            connection.executemany(_SUM.format(values=",".join("?" * _N_SUM_COLUMNS)), _sums(rows, slot))
            connection.execute("COMMIT")
            yield


def _write_postgresql(database: str, slot: int, groups: Iterator[list[Row]]) -> Generator[None, None, None]:
    """Commit one group at each step, as `_write_sqlite` does."""
    with closing(psycopg.connect(database.replace("+psycopg", ""))) as connection:
        yield
        for rows in groups:
            columns = [list(column) for column in zip(*rows, strict=True)]
            connection.execute(_INSERT_POSTGRESQL.encode(), columns)
            with connection.cursor() as cursor:
                sums = _SUM.format(values=",".join(["%s"] * _N_SUM_COLUMNS))
                cursor.executemany(sums.encode(), _sums(rows, slot))
            connection.commit()
            yield
