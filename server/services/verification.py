"""Verification of the ledger: compares the reward log with the facts, or rebuilds facts from the log."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bandit.decision_id import Basis
from bandit.facts import OutcomeKey, Tally
from server.store.columns.exact_sums import SUM_BITS
from server.store.contract import Store
from server.store.errors import StoreBrokenError
from server.store.records import Progress

_N_SEALS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of comparing log and facts.

    Attributes:
        is_clean: Whether they are equal, and the database is sound.
        n_outcomes: Outcomes in the log and in sealed sums, without those kept apart.
        n_experiments: Experiments in the log.
        differences: One line for each sum that differs, and for each fault of the database.
        notes: Other remarks.
    """

    is_clean: bool
    n_outcomes: int
    n_experiments: int
    differences: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """The result of a rebuild.

    Attributes:
        n_outcomes: Outcomes counted.
        n_rows: Rows written.
        notes: Sums that could not be made exact again.
    """

    n_outcomes: int
    n_rows: int
    notes: Sequence[str]


def verify(store: Store, progress: Progress) -> VerifyReport:
    """Compare the sealed sums and the fold of the reward log with the outcome facts, exactly.

    The database's own check runs first, and a database that is too damaged to read is reported as such.
    """
    faults = [f"the database's own check: {fault}" for fault in store.check_integrity()]
    try:
        folded, stored = store.compare_ledger(progress)
        notes = [*_notes(store), *_uncounted(folded)]
    except StoreBrokenError as error:
        faults.append(f"the log can't be compared with the facts: {error}")
        folded, stored, notes = {}, {}, []
    differences = [
        _difference(key, folded.get(key, Tally()), stored.get(key, Tally()))
        for key in sorted(folded.keys() | stored.keys())
        if folded.get(key, Tally()) != stored.get(key, Tally())
    ]
    return VerifyReport(
        is_clean=not differences and not faults,
        n_outcomes=_n_outcomes(folded.values()),
        n_experiments=len({key.experiment for key in folded}),
        differences=[*faults, *differences],
        notes=notes,
    )


def _notes(store: Store) -> list[str]:
    """Return notes on sealed epochs, and on outcomes kept apart."""
    notes = []
    sealed = store.summarise_seals()
    if sealed.sealed_at is not None:
        notes.append(
            f"{sum(sealed.epochs.values()):,} epochs of {len(sealed.epochs):,} experiments are sealed, the "
            f"last at {sealed.sealed_at:%Y-%m-%d %H:%M} UTC: {sealed.n_outcomes:,} outcomes are in sealed "
            "sums and no longer in the log"
        )
        ranges = [f"{name} 1 to {last}" for name, last in list(sealed.epochs.items())[:_N_SEALS_SHOWN]]
        more = ["and so on"] if len(sealed.epochs) > len(ranges) else []
        notes += [f"sealed epochs: {', '.join([*ranges, *more])}"] if ranges else []
    n_apart = store.count_apart()
    if n_apart:
        purged = f", {sealed.n_apart} of them purged" if sealed.n_apart else ""
        notes.append(f"{n_apart} outcomes are kept apart{purged}: their epochs are not those stored")
    return notes


def _uncounted(folded: Mapping[OutcomeKey, Tally]) -> Iterator[str]:
    count = _n_outcomes(tally for key, tally in folded.items() if key.basis is Basis.UNCOUNTED)
    if count:
        yield (
            f"{count:,} outcomes are uncounted: a server that was killed lost the counts of their decisions, "
            "so both are left out"
        )


def rebuild(store: Store, progress: Progress) -> RebuildReport:
    """Rebuild the outcome facts from the reward log; decision counts stay."""
    rebuilt = store.rebuild_outcomes(progress)
    _, stored = store.compare_ledger(lambda _done, _total: None)
    return RebuildReport(
        n_outcomes=_n_outcomes(stored.values()),
        n_rows=rebuilt.n_rows,
        notes=[
            f"{_place(key)}: its sums stay rounded to 53 bits; the outcomes were purged from the log"
            for key in rebuilt.rounded
        ],
    )


def _n_outcomes(tallies: Iterable[Tally]) -> int:
    return sum(tally.n + tally.late_n for tally in tallies)


def _difference(key: OutcomeKey, folded: Tally, stored: Tally) -> str:
    wrong = [
        f"{name} is {_in_quanta(in_facts, name)} but {_in_quanta(in_log, name)} in the log"
        for name, in_facts, in_log in zip(Tally._fields, stored, folded, strict=True)
        if in_facts != in_log
    ]
    return f"{_place(key)}: {', '.join(wrong)}"


def _place(key: OutcomeKey) -> str:
    return (
        f"experiment {key.experiment}, epoch {key.epoch}, arm {key.arm}, {key.basis.name.lower()}, "
        f"metric {key.metric}"
    )


def _in_quanta(in_steps: int, name: str) -> str:
    """Return a sum in the quanta of the log, to the last step."""
    quanta, steps = divmod(in_steps, 1 << SUM_BITS.get(name, 0))
    return f"{quanta} and {steps}/{1 << SUM_BITS[name]}" if steps else str(quanta)
