"""The durability of PostgreSQL's commits: checked when a writer connects, and from then on.

A reload of its configuration can weaken it under a running server. What a session can set for itself is set,
since that is stronger than any reload; what it can't is read with every poll and every commit of rewards.
"""

from typing import Any, Final

import psycopg

from server.store.errors import StoreUnsafeError

_SYNCHRONOUS: Final = frozenset({"on", "remote_apply"})


class Durability:
    """What is known of one server's durability. May be used from any thread.

    Attributes:
        flaw: Why a commit could be lost after it was acknowledged; None if it can't.
    """

    def __init__(self) -> None:
        self.flaw: str | None = None
        self._was_safe = False

    def secure(self, driver: "psycopg.Connection[Any]") -> None:
        """Make a new connection wait for its commits to be safe, whatever is configured later.

        A configuration that is weak from the start is a mistake, and refused. One that became so later is
        overruled: the commits of this connection are safe, and no call needs to fail.

        Raises:
            StoreUnsafeError: A commit that has returned could still be lost.
        """
        query = "SELECT current_setting('synchronous_commit'), current_setting('fsync')"
        synchronous, fsync = driver.execute(query).fetchone() or ("", "")
        if fsync != "on" or (synchronous not in _SYNCHRONOUS and not self._was_safe):
            driver.close()
            raise StoreUnsafeError(
                "the database acknowledges commits before they are safe (synchronous_commit is "
                f"{synchronous}, fsync is {fsync}): both must be on, or an acknowledged reward could be lost"
            )
        wanted = synchronous if synchronous in _SYNCHRONOUS else "on"
        driver.execute("SELECT set_config('synchronous_commit', %s, false)", (wanted,))
        driver.commit()
        self._was_safe = True

    def note_fsync(self, fsync: str) -> None:
        """Update the flaw from the setting as a transaction read it."""
        self.flaw = None if fsync == "on" else f"the database's fsync is {fsync}: a crash could lose commits"

    def require(self) -> None:
        """Raise StoreUnsafeError if there is a flaw."""
        if self.flaw is not None:
            raise StoreUnsafeError(self.flaw)
