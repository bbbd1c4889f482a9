"""A batch of rewards in one transaction: what the log takes, how it counts, what that adds to the facts."""

from collections.abc import Sequence

from sqlalchemy import Connection

from server.store.dialect import Dialect
from server.store.records import RewardEntry, RewardVerdict
from server.store.tables import facts, seals, uncounted
from server.store.tables.rewards import RewardLog


def record(
    connection: Connection, dialect: Dialect, log: RewardLog, entries: Sequence[RewardEntry], slot: int
) -> list[RewardVerdict]:
    """Writes entries into the log and adds what is new to the facts, inside the caller's transaction."""
    experiments = sorted({entry.experiment for entry in entries})
    found = dialect.read_bounds(connection, experiments, uncounted.runs_in(entries))
    barred = seals.tell_barred(entries, found)
    taken = [entry for entry, bar in zip(entries, barred, strict=True) if bar is None]
    accepted = uncounted.relabelled(connection, taken, found.ended)
    verdicts, increments = log.record(connection, accepted)
    facts.add_outcomes(connection, increments, slot)
    recorded = iter(verdicts)
    return [next(recorded) if bar is None else bar for bar in barred]
