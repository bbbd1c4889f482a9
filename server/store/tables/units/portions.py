"""Portions of units, and sums over their outcomes in SQL: what the folds of units share."""

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, select

from bandit.experiment import SEGMENT_ALL
from bandit.facts import Tally
from server.store.columns.exact_sums import QUANTA_OF_STEPS, STEP_BITS, in_quanta
from server.store.tables.schema import units

_N_UNITS: Final = 20_000
"""Units that are folded at once: what a fold keeps in memory does not grow with their number."""

_BEYOND_UNITS: Final = 2**63 - 1
"""Larger than the hash of any unit, which has 48 bits."""

IS_IN_PORTION: Final = """
    units.experiment = :experiment AND units.segment = :segment AND units.unit >= :first AND units.unit < :end
"""
_STEPS_OF_QUANTA: Final = f"(rewards.quanta << {STEP_BITS})"
_REAL_STEPS: Final = f"{_STEPS_OF_QUANTA} + coalesce(steps - ({QUANTA_OF_STEPS} << {STEP_BITS}), 0)"
STEPS: Final = {True: _REAL_STEPS, False: _STEPS_OF_QUANTA}
"""The steps of a row of the log, by whether the metric is real; for any other the index of the log by unit
has all that is read."""

MOMENTS: Final = """
    count(*), sum(outcome),
    sum((outcome >> 20) * (outcome >> 20)), sum((outcome >> 20) * (outcome & 1048575)),
    sum((outcome & 1048575) * (outcome & 1048575))
"""
"""The moments of outcomes in steps: the square of one may need more than 64 bits, so it is taken in halves of
20 bits."""


def tally_of(moments: Sequence[int], *, is_real: bool) -> Tally:
    """The tally, in the metric's quanta, of a row of `MOMENTS`."""
    n, total, high, middle, low = map(int, moments)
    squares = (high << 2 * STEP_BITS) + (middle << STEP_BITS + 1) + low
    return in_quanta(Tally(n, total, squares), is_real=is_real)


def portions(connection: Connection, experiment: int) -> Iterator[dict[str, int]]:
    """Ranges of units that hold all of them, each a portion or less; as arguments of `IS_IN_PORTION`."""
    known = select(units.c.unit).where(units.c.experiment == experiment, units.c.segment == SEGMENT_ALL)
    first: int | None = connection.execute(known.order_by(units.c.unit).limit(1)).scalar_one_or_none()
    while first is not None:
        following = known.where(units.c.unit >= first).order_by(units.c.unit).offset(_N_UNITS).limit(1)
        end = connection.execute(following).scalar_one_or_none()
        yield {
            "experiment": experiment,
            "segment": SEGMENT_ALL,
            "first": first,
            "end": _BEYOND_UNITS if end is None else end,
        }
        first = end
