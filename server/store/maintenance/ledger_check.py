"""The check of the ledger: the fold of the reward log against the sums that were kept as it was written."""

from collections.abc import Mapping

from sqlalchemy import Connection

from bandit.facts import OutcomeKey, Tally
from server.store.columns.exact_sums import StoredTally
from server.store.dialect import Dialect
from server.store.maintenance import purge, sum_repair
from server.store.records import Progress, Rebuilt
from server.store.tables import facts, sealed_facts


def fold(connection: Connection, progress: Progress) -> dict[facts.OutcomePart, StoredTally]:
    """The sums that the whole log and the seals of what was purged from it say, one experiment at a time.

    Seals do not know parts.
    """
    folded: dict[facts.OutcomePart, StoredTally] = {}
    numbers = facts.logged_experiments(connection)
    for done, number in enumerate(numbers):
        progress(done, len(numbers))
        folded.update(facts.fold_log(connection, number))
    progress(len(numbers), len(numbers))
    for sealed, tally in sealed_facts.read(connection).items():
        key = facts.OutcomePart(sealed)
        folded[key] = folded[key].plus(tally) if key in folded else tally
    return folded


def compare(
    connection: Connection, progress: Progress
) -> tuple[dict[OutcomeKey, Tally], dict[OutcomeKey, Tally]]:
    """The fold and the sums that were kept, both in steps."""
    folded, stored = facts.over_parts(fold(connection, progress)), facts.sum_all(connection)
    return _in_steps(folded), _in_steps(stored)


def _in_steps(tallies: Mapping[OutcomeKey, StoredTally]) -> dict[OutcomeKey, Tally]:
    return {key: tally.in_steps() for key, tally in tallies.items()}


def rebuild(connection: Connection, dialect: Dialect, progress: Progress) -> Rebuilt:
    """Replace the outcome facts by the fold. The caller keeps writers away."""
    lost = sum_repair.repair(connection, dialect).lost
    folded = fold(connection, progress)
    facts.clear_outcomes(connection)
    facts.add_outcomes(connection, dialect, folded, slot=0)
    return Rebuilt(len(facts.over_parts(folded)), lost)


def count_apart(connection: Connection) -> int:
    """How many outcomes were recorded apart, in the log and purged from it."""
    return facts.count_apart(connection) + purge.count_apart_purged(connection)
