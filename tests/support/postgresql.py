"""The PostgreSQL of tests: small, quick to detect a deadlock, and with the clients of the wheel."""

import subprocess
from pathlib import Path

from typing_extensions import override

from benchmarks.harness import postgresql
from benchmarks.harness.faked_clock import FakedClock
from benchmarks.harness.postgresql import query

__all__ = ["PostgresqlProcess", "dump", "n_waiting", "query", "restore"]

_SETTINGS = ("shared_buffers=32MB", "max_connections=100", "deadlock_timeout=50ms")


class PostgresqlProcess(postgresql.PostgresqlProcess):
    """A PostgreSQL server that is durable as in service: it syncs."""

    @override
    def __init__(self, folder: Path, clock: FakedClock | None = None) -> None:
        super().__init__(folder, _SETTINGS, clock)


def dump(url: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Return the output of the wheel's `pg_dump` for a database."""
    return _run_client("pg_dump", *flags, url.replace("+psycopg", ""))


def restore(url: str, archive: Path) -> None:
    """Restore an archive of `pg_dump` into an empty database."""
    _run_client(
        "pg_restore", "--exit-on-error", "--no-owner", "--dbname", url.replace("+psycopg", ""), str(archive)
    )


def n_waiting(url: str) -> int:
    """Return how many sessions of a database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    ((count,),) = query(url, f"{waiting} AND datname = current_database()")
    return int(count)


def _run_client(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(postgresql.binaries() / program), *arguments],
        env=postgresql.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
