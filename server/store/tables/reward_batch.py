"""What becomes of a batch of rewards: which outcomes are new, and what that adds to the facts.

An upsert inserts new rows and replaces those of a lower revision; it returns the rows that it touched. A
second statement reads those that it did not: the loser of a race could not otherwise tell a duplicate from a
conflict. An entry is all or nothing: if one of its outcomes conflicts, the round is undone and done again
without the entry.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey
from server.store.columns.exact_sums import StoredTally, rests_of
from server.store.columns.slots import counted_part
from server.store.dialect import Dialect
from server.store.records import (
    Conflicting,
    Expired,
    OutcomeResult,
    Recorded,
    RewardEntry,
    RewardVerdict,
)
from server.store.tables import rewards
from server.store.tables.facts import OutcomePart
from server.store.tables.rewards import Row, RowKey, StoredOutcome, Touched, logged_as


def record(
    connection: Connection, dialect: Dialect, entries: Sequence[RewardEntry]
) -> tuple[list[RewardVerdict], dict[OutcomePart, StoredTally]]:
    """Write entries inside the caller's transaction.

    Returns:
        One verdict for each entry, and what to add to the facts.
    """
    verdicts: dict[int, RewardVerdict] = {}
    increments: dict[OutcomePart, StoredTally] = {}
    rounds, copies = _plan_rounds(entries)
    for numbers in rounds:
        done, added = _record_round(connection, dialect, {number: entries[number] for number in numbers})
        verdicts.update(done)
        for key, tally in added.items():
            increments[key] = increments[key].plus(tally) if key in increments else tally
    for copy, original in copies.items():
        verdicts[copy] = _verdict_of_copy(verdicts[original])
    return [verdicts[number] for number in range(len(entries))], increments


def _record_round(
    connection: Connection, dialect: Dialect, entries: dict[int, RewardEntry]
) -> tuple[dict[int, RewardVerdict], dict[OutcomePart, StoredTally]]:
    """Write entries that share no key."""
    verdicts = _find_expired(connection, dialect, entries)
    while True:
        open_entries = {n: entry for n, entry in entries.items() if n not in verdicts}
        savepoint = connection.begin_nested() if _can_conflict_in_part(open_entries.values()) else None
        touched, existing = _write(connection, dialect, open_entries.values())
        judged = {n: _judge(entry, touched, existing) for n, entry in open_entries.items()}
        broken = {
            n: verdict
            for n, verdict in judged.items()
            if isinstance(verdict, Conflicting) and _is_touched(open_entries[n], touched)
        }
        if not broken or savepoint is None:
            if savepoint is not None:
                savepoint.commit()
            return verdicts | judged, _increments(open_entries.values(), touched)
        savepoint.rollback()
        verdicts |= broken


def _find_expired(
    connection: Connection, dialect: Dialect, entries: Mapping[int, RewardEntry]
) -> dict[int, RewardVerdict]:
    expired = {number: entry for number, entry in entries.items() if entry.is_expired}
    known = rewards.find(connection, dialect, sorted(_keys(expired.values()))) if expired else {}
    verdicts: dict[int, RewardVerdict] = {}
    for number, entry in expired.items():
        missing = tuple(o.metric for o in entry.outcomes if (entry.decision, o.metric) not in known)
        if missing:
            verdicts[number] = Expired(missing)
    return verdicts


def _write(
    connection: Connection, dialect: Dialect, entries: Iterable[RewardEntry]
) -> tuple[Mapping[RowKey, Touched], Mapping[RowKey, StoredOutcome]]:
    rows = sorted(row for entry in entries for row in _rows(entry))
    touched = rewards.upsert(connection, dialect, rows)
    if len(touched) == len(rows):
        return touched, {}
    untouched = [(row[0], row[1]) for row in rows if (row[0], row[1]) not in touched]
    return touched, rewards.find(connection, dialect, untouched)


def _plan_rounds(entries: Sequence[RewardEntry]) -> tuple[list[list[int]], dict[int, int]]:
    """Numbers of entries by round, so that no key is twice in a round; and copies with their originals.

    Entries that share a key stay in their order. An entry that repeats an earlier one to the letter, while no
    entry between them shares a key with it, is its copy and need not be written.
    """
    if len({entry.decision for entry in entries}) == len(entries):
        return [list(range(len(entries)))], {}
    rounds: list[list[int]] = []
    copies: dict[int, int] = {}
    last_round: dict[RowKey, int] = {}
    last_entry: dict[RowKey, int] = {}
    for number, entry in enumerate(entries):
        keys = [(entry.decision, outcome.metric) for outcome in entry.outcomes]
        before = {last_entry.get(key) for key in keys}
        original = before.pop() if len(before) == 1 else None
        if original is not None and _is_copy(entry, entries[original]):
            copies[number] = original
            continue
        round_number = 1 + max((last_round.get(key, -1) for key in keys), default=-1)
        if round_number == len(rounds):
            rounds.append([])
        rounds[round_number].append(number)
        for key in keys:
            last_round[key] = round_number
            last_entry[key] = number
    return rounds, copies


def _is_copy(entry: RewardEntry, original: RewardEntry) -> bool:
    return (
        entry.revision == original.revision
        and entry.is_expired == original.is_expired
        and [(o.metric, o.quanta, o.value) for o in entry.outcomes]
        == [(o.metric, o.quanta, o.value) for o in original.outcomes]
    )


def _verdict_of_copy(verdict: RewardVerdict) -> RewardVerdict:
    """What an entry gets that repeats one with this verdict right after it."""
    if not isinstance(verdict, Recorded):
        return verdict
    superseded = OutcomeResult.SUPERSEDED
    return Recorded(
        tuple(superseded if result is superseded else OutcomeResult.DUPLICATE for result in verdict.results)
    )


def _keys(entries: Iterable[RewardEntry]) -> Iterator[RowKey]:
    return ((entry.decision, outcome.metric) for entry in entries for outcome in entry.outcomes)


def _rows(entry: RewardEntry) -> Iterator[Row]:
    (
        decision,
        experiment,
        epoch,
        segment,
        arm,
        basis,
        outcomes,
        revision,
        received_ms,
        _,
        is_apart,
        unit,
        _,
    ) = entry
    for outcome in outcomes:
        metric, _, is_late, value, _ = outcome
        quanta, steps = logged_as(outcome)
        yield (
            decision,
            metric,
            experiment,
            epoch,
            segment,
            arm,
            int(basis),
            quanta,
            revision,
            is_late,
            is_apart,
            received_ms,
            unit,
            value,
            steps,
        )


def _can_conflict_in_part(entries: Iterable[RewardEntry]) -> bool:
    return any(len(entry.outcomes) > 1 for entry in entries)


def _is_touched(entry: RewardEntry, touched: Mapping[RowKey, Touched]) -> bool:
    return any((entry.decision, outcome.metric) in touched for outcome in entry.outcomes)


_ALONE_RECORDED: Final = Recorded((OutcomeResult.RECORDED,))
_ALONE_LATE: Final = Recorded((OutcomeResult.LATE,))
_ALONE_REVISED: Final = Recorded((OutcomeResult.REVISED,))


def _judge(
    entry: RewardEntry, touched: Mapping[RowKey, Touched], existing: Mapping[RowKey, StoredOutcome]
) -> RewardVerdict:
    if len(entry.outcomes) == 1:
        row = touched.get((entry.decision, entry.outcomes[0].metric))
        if row is not None:
            return _verdict_of_touched(row)
    results: list[OutcomeResult] = []
    conflicts: list[int] = []
    for outcome in entry.outcomes:
        metric = outcome.metric
        row = touched.get((entry.decision, metric))
        if row is not None:
            results += _verdict_of_touched(row).results
            continue
        stored = existing[entry.decision, metric]
        if stored.revision > entry.revision:
            results.append(OutcomeResult.SUPERSEDED)
        elif stored.holds(outcome):
            results.append(OutcomeResult.DUPLICATE)
        else:
            conflicts.append(metric)
    return Conflicting(tuple(conflicts)) if conflicts else Recorded(tuple(results))


def _verdict_of_touched(row: Touched) -> Recorded:
    if row.replaced_quanta is not None:
        return _ALONE_REVISED
    return _ALONE_LATE if row.is_late else _ALONE_RECORDED


def _increments(
    entries: Iterable[RewardEntry], touched: Mapping[RowKey, Touched]
) -> dict[OutcomePart, StoredTally]:
    """What the touched rows add to the facts."""
    columns: defaultdict[tuple[int, ...], list[int]] = defaultdict(lambda: [0] * len(StoredTally._fields))
    for entry in entries:
        decision, experiment, epoch, segment, arm, _, outcomes = entry[:7]
        for outcome in outcomes:
            metric = outcome.metric
            row = touched.get((decision, metric))
            if row is None or row.is_apart:
                continue
            (quanta, steps), old = logged_as(outcome), row.replaced_quanta
            part = counted_part(decision, epoch, row.basis)
            sums = columns[experiment, epoch, segment, arm, row.basis, metric, part]
            at = 3 if row.is_late else 0
            sums[at] += old is None
            sums[at + 1] += quanta - (old or 0)
            sums[at + 2] += quanta * quanta - (old or 0) ** 2
            if steps != row.replaced_steps:
                at = 8 if row.is_late else 6
                for moment, (new, before) in enumerate(
                    zip(rests_of(steps), rests_of(row.replaced_steps), strict=True)
                ):
                    sums[at + moment] += new - before
    return {_key(*key): StoredTally(*sums) for key, sums in columns.items()}


def _key(
    experiment: int, epoch: int, segment: int, arm: int, basis: int, metric: int, part: int
) -> OutcomePart:
    return OutcomePart(OutcomeKey(experiment, epoch, segment, arm, Basis(basis), metric), part)
