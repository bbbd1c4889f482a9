"""Slots of the facts, which also say in which part of a first epoch a row's decisions were.

Readers sum over all slots of a key, as servers before 0.3.0 do. So a count that is known by part stands in
another slot of the same key, and no total changes:

    slot of a part = writer's slot - 4096 * (part + 1)

Writers have slots from 0, so parts are negative, and a slot of 0 or more does not say which part. A writer in
slot 4096 or above counts there whatever the part: its slot would fall into another part's range.
"""

from typing import Any, Final

from sqlalchemy import Column, ColumnElement, case

from bandit.facts.parts import is_split, part_of

NO_PART: Final = -1
"""The part of counts that are not known by part."""

_SLOTS: Final = 4096


def slot_of(slot: int, part: int) -> int:
    """Return the slot in which the writer with this slot counts a part, or counts without one.

    >>> slot_of(7, NO_PART), slot_of(7, 0), slot_of(7, 4), slot_of(4096, 4)
    (7, -4089, -20473, 4096)
    """
    return slot - _SLOTS * (part + 1) if slot < _SLOTS else slot


def part_in(slot: Column[Any]) -> ColumnElement[int]:
    """Return the part of a row as SQL, `NO_PART` where it is not known."""
    return case((slot >= 0, NO_PART), else_=(-1 - slot) // _SLOTS)


def counted_part(decision_id: bytes, epoch: int, basis: int) -> int:
    """Return the part in which an outcome of this decision counts under a basis, `NO_PART` if in none."""
    return part_of(decision_id) if is_split(epoch, basis) else NO_PART
