"""Events in SQL, and their deliveries to webhooks.

Each module has a subject; callers import the names from here.
"""

from server.store.tables.events.rows import (
    append,
    list_page,
    purge,
    read_cursor,
    read_since,
    repair_versions,
)

__all__ = ["append", "list_page", "purge", "read_cursor", "read_since", "repair_versions"]
