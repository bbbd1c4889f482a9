"""Seals: which outcomes a store no longer takes, and what was purged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Seal(NamedTuple):
    """Retention watermarks: decisions whose outcomes are rejected.

    Attributes:
        epoch: Outcomes of decisions up to this epoch are rejected.
        before: So are those of fallbacks, and of decisions that are kept apart, with a lower id than this.
    """

    epoch: int
    before: bytes


class SealedEpochs(NamedTuple):
    """Epochs of an experiment that are sealed together.

    Attributes:
        experiment: The store's number of the experiment.
        first: The first of them.
        last: The last of them; one less than the first if only fallbacks and what is kept apart are sealed.
        began_at: No decision that this seals was made earlier, as far as clocks agreed.
        before: See `Seal`.
    """

    experiment: int
    first: int
    last: int
    began_at: datetime
    before: bytes


class PurgeStep(NamedTuple):
    """What one transaction of a purge did.

    Attributes:
        n_rows: Rows that it moved from the log into the sealed sums, those kept apart included.
        next_id: Where the next one goes on; None at the end.
    """

    n_rows: int
    next_id: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealSummary:
    """What is sealed in the whole store.

    Attributes:
        epochs: Name of an experiment to its last sealed epoch; all before it are sealed, too.
        sealed_at: When the last seal was raised; None if there is none.
        n_outcomes: Outcomes in the sealed sums.
        n_apart: Rows kept apart that were purged.
    """

    epochs: Mapping[str, int]
    sealed_at: datetime | None
    n_outcomes: int
    n_apart: int
