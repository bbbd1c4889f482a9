"""Work on the whole ledger: its progress, and what a rebuild did."""

from collections.abc import Callable
from typing import NamedTuple

from bandit.facts import OutcomeKey

Progress = Callable[[int, int], None]
"""Called with how many of how many steps are done."""


class Rebuilt(NamedTuple):
    """What a rebuild of the outcome facts did.

    Attributes:
        n_rows: Rows that it wrote.
        rounded: Keys whose sealed sum is no longer exact: SQLite had rounded it, and the facts as well.
    """

    n_rows: int
    rounded: tuple[OutcomeKey, ...] = ()
