"""Errors of a store, each with what its caller should do.

StoreError
├── StoreUnavailableError    nothing was stored; try again later
│   ├── StoreUnreachableError       no answer from its address; it may be back at any moment
│   ├── StorePlaceError      no database can be where the URL says; correct one of the two
│   ├── StoreFullError       no room left; try again once there is
│   ├── StoreReadOnlyError   writes are refused until an operator changes that
│   └── StoreUnsafeError     what it acknowledges could be lost, until an operator changes that
├── StoreBrokenError         durability can no longer be promised; end the process
├── StoreInUseError          another process owns the store
├── BackupTargetError        name another file for the copy
├── SchemaError              the database is not of this version; migrate it
│   └── ForeignFileError     the file is of another kind; name another
├── RowRefusedError          the database refused the values of a statement
├── OutdatedError            a newer release is in service: have the change made by a server of that
├── OlderServersError        stop the servers of an earlier release first
├── WriterUnknownError       the writer was forgotten; claim a slot before counting on
├── RunTakenError            another run of a server has the same mark in its decisions; draw another
├── RunEndedError            what the run did not count in time is settled; go on as a new run
├── NameTakenError           the name is or was in use
├── KeysNotReadyError        the ring can't take another key yet; try again later
├── QuotaReachedError        the namespace holds as many experiments as it may; delete one first
├── LeaseLostError           another server acts in this one's place; leave it to that
└── StaleRevisionError       another caller changed the experiment first; read it again
"""

from collections.abc import Sequence


class StoreError(Exception):
    """The store could not do what was asked."""


class StoreUnavailableError(StoreError):
    """The store can't be reached; nothing was stored."""


class StoreUnreachableError(StoreUnavailableError):
    """There is no answer from the store's address, or not yet; nothing was stored."""


class StorePlaceError(StoreUnavailableError):
    """No database can be where the URL says, however long one waits.

    Attributes:
        is_malformed: Whether the URL is at fault on every machine, and not what is found on this one.
    """

    def __init__(self, text: str, *, is_malformed: bool = False) -> None:
        self.is_malformed = is_malformed
        super().__init__(text)


class StoreFullError(StoreUnavailableError):
    """The store has no room left; nothing was stored."""


class StoreReadOnlyError(StoreUnavailableError):
    """The store takes no writes; nothing was stored."""


class StoreUnsafeError(StoreUnavailableError):
    """The store would acknowledge what a crash could still take away; nothing was stored."""


class StoreBrokenError(StoreError):
    """A write to stable storage failed; what a later success says can't be trusted."""


class StoreInUseError(StoreError):
    """{place} is in use by another bandit-server (process {pid})."""

    def __init__(self, place: str, pid: str) -> None:
        self.place = place
        self.pid = pid
        super().__init__(
            f"{place} is in use by another bandit-server (process {pid}): "
            "an SQLite file serves one process; stop the other, or name another file with --database"
        )


class BackupTargetError(StoreError):
    """The copy can't be written where it was wanted; nothing was changed there."""


class SchemaError(StoreError):
    """The schema of {place} is not the one this version works with."""


class ForeignFileError(SchemaError):
    """The file is no database of this service; it was left as it is."""


class RowRefusedError(StoreError):
    """The database refused the values of a statement; nothing was stored."""


class OutdatedError(StoreError):
    """A newer release is in service, and this server would change what that reads; nothing was stored."""


class OlderServersError(StoreError):
    """A feature can't be used while servers run that could not read what it writes."""

    def __init__(self, feature: str, release: str, servers: Sequence[str]) -> None:
        self.servers = tuple(servers)
        super().__init__(
            f"{feature} need release {release} on every server, and these are older: "
            f"{'; '.join(self.servers)}. Stop or upgrade them, wait until they have been silent for a "
            "minute, and try again"
        )


class WriterUnknownError(StoreError):
    """The store does not know this writer, or has forgotten it; nothing was stored."""


class RunTakenError(StoreError):
    """Another run has the bits that stand for this one in decision ids; nothing was stored."""


class RunEndedError(StoreError):
    """The run was taken for dead, and the decisions of this flush are settled as uncounted."""


class KeysNotReadyError(StoreError):
    """The ring of keys takes no new one: {why}."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class NameTakenError(StoreError):
    """An experiment named {name} exists or existed; names are never used again."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an experiment named {name!r} exists or existed; names are never used again")


class QuotaReachedError(StoreError):
    """Namespace {namespace} holds {most} experiments already."""

    def __init__(self, namespace: str, most: int) -> None:
        self.namespace = namespace
        self.most = most
        super().__init__(f"namespace {namespace!r} holds {most} experiments already")


class LeaseLostError(StoreError):
    """The lease {name} is no longer held under token {token}; nothing was stored."""

    def __init__(self, name: str, token: int) -> None:
        self.name = name
        self.token = token
        super().__init__(f"the lease {name!r} is no longer held under token {token}")


class StaleRevisionError(StoreError):
    """Experiment {name} was changed by another caller."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"experiment {name!r} was changed by another caller")
