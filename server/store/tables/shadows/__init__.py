"""Arms in shadow, in SQL: the pairs of their outcomes and the champion's, and what stays of purged ones.

Pairs are folded from the log when they are read, not counted on arrival: two servers that commit the two
halves of a pair at the same time would each miss the other's. A decision and its shadows differ in the last
16 bits of their ids only, so they stand together in the log, whose key begins with the id.

Each module has a subject; callers import the names from here.
"""

from server.store.tables.shadows.pairs import read
from server.store.tables.shadows.sealed import next_cut, seal, whole_families

__all__ = ["next_cut", "read", "seal", "whole_families"]
