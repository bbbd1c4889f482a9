"""The part of a store that keeps leases, so that of several servers only one acts.

A lease knows no time: whoever wants it watches, by a clock of its own, whether the holder's beat still grows.
What the holder does is fenced instead: a change under a lease names it, and is refused once another server
has taken the lease over (`change_experiment`).

Threads, atomicity, ownership and failure are those of `server.store.contract`.
"""

from abc import ABC, abstractmethod

from server.store.records import Lease


class LeaseStore(ABC):
    """The part of a store that keeps leases."""

    @abstractmethod
    def read_lease(self, name: str) -> Lease:
        """The lease of this name; one with token 0 if nobody ever held it."""

    @abstractmethod
    def take_over_lease(self, seen: Lease, holder: str) -> Lease | None:
        """Give the lease to `holder`, with the next token, if it is still as it was seen.

        Waits for nobody: a lease under which a change is being made is left alone.

        Args:
            seen: The lease as `read_lease` gave it.
            holder: The run that takes it, unlike any other run.

        Returns:
            The lease; None if its token or beat is another by now, or a change is being made under it.
        """

    @abstractmethod
    def renew_lease(self, lease: Lease) -> Lease | None:
        """Raise the beat of a lease by one; None if it is another's by now, or has a later beat."""

    @abstractmethod
    def release_lease(self, lease: Lease) -> None:
        """Free a lease, if this holder still has it, once the change that is being made under it has ended.

        Later changes under it are refused, as after a takeover.
        """
