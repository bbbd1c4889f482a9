"""Units in SQL: rows of their first decisions, and what evidence and beliefs fold from those and the log.

A unit's outcomes are not stored twice: which of them count for it is known only when its first decisions are,
and a flush on its way may move those. The log is indexed by unit instead.

Each module has a subject; callers import the names from here.
"""

from server.store.tables.units.evidence import read
from server.store.tables.units.rows import add, add_groups, read_first, rows_of
from server.store.tables.units.sealed import LeavingOutcome, seal
from server.store.tables.units.steering import read_steering

__all__ = ["LeavingOutcome", "add", "add_groups", "read", "read_first", "read_steering", "rows_of", "seal"]
