"""A disk that a test controls: it remembers what was written and synced, and fails on demand.

`Disk` is an SQLite VFS over the real one, and keeps its history in order. A `Platter` replays that history
and returns what a power cut may leave: everything that was synced, and of the rest nothing, all, a prefix,
any subset, or all but half of the last write.
"""

import enum
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import apsw

_SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes written at an offset."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file cut to a size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file whose writes have reached the platter."""

    file: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A file that was deleted."""

    file: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """These rewards were acknowledged as safe."""

    decisions: frozenset[bytes]


Event: TypeAlias = Written | Truncated | Synced | Deleted | Acknowledged


class Fault(enum.Enum):
    """The faults of a disk, by the name of the file in its folder that switches each one on."""

    SYNC_FAILS = "sync-fails"
    FULL = "full"
    SLOW = "slow"


class Disk(apsw.VFS):
    """A VFS over the default one.

    Args:
        name: The name under which SQLite knows it.
        faults: A folder; while it holds a file named as a fault, the disk has it. The file of `SLOW` holds
            the seconds that a sync takes. None for a disk without faults.
        has_history: Whether it remembers what is written.
    """

    def __init__(self, name: str, faults: Path | None = None, *, has_history: bool = True) -> None:
        super().__init__(name, "")
        self.name = name
        self.events: list[Event] = []
        self._faults = faults
        self._has_history = has_history

    def note(self, event: Event) -> None:
        """Record an event."""
        if self._has_history:
            self.events.append(event)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802 - SQLite's names
        """Open a file."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        return _File(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001 - SQLite's signature
        """Delete a file."""
        super().xDelete(filename, syncdir)
        self.note(Deleted(Path(filename).name))

    def has(self, fault: Fault) -> bool:
        """True if the disk has this fault now."""
        return self._faults is not None and (self._faults / fault.value).exists()

    def wait(self) -> None:
        """Wait as long as a slow disk takes."""
        if self._faults is not None and self.has(Fault.SLOW):
            time.sleep(float((self._faults / Fault.SLOW.value).read_text()))


class _File(apsw.VFSFile):
    """An open file of a `Disk`; its errors are those that SQLite's own VFS makes of the system's."""

    def __init__(self, disk: Disk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._name = Path(path).name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Write; ENOSPC becomes SQLITE_FULL."""
        if self._disk.has(Fault.FULL):
            raise _failed(apsw.FullError("no space left on device"), apsw.SQLITE_FULL)
        super().xWrite(data, offset)
        self._disk.note(Written(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Truncate the file."""
        super().xTruncate(newsize)
        self._disk.note(Truncated(self._name, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync; EIO becomes SQLITE_IOERR_FSYNC."""
        self._disk.wait()
        if self._disk.has(Fault.SYNC_FAILS):
            raise _failed(apsw.IOError("fdatasync: input/output error"), apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._disk.note(Synced(self._name))


def _failed(error: apsw.Error, code: int) -> apsw.Error:
    """Return the error with the code that SQLite passes on."""
    error.result = code & 0xFF  # type: ignore[attr-defined]  # documented, and missing from its stubs
    error.extendedresult = code  # type: ignore[attr-defined]
    return error


class Survival(enum.Enum):
    """What a power cut leaves of the writes that were not synced."""

    NOTHING = enum.auto()
    EVERYTHING = enum.auto()
    A_PREFIX = enum.auto()
    ANY_SUBSET = enum.auto()
    HALF_OF_THE_LAST = enum.auto()


@dataclass(slots=True)
class Platter:
    """The files of a disk while its history is replayed: what is safe, and what is not synced yet.

    Attributes:
        files: Name mapped to the bytes that are safe.
        pending: Name mapped to the writes that were not synced since.
        acked: Rewards that were acknowledged as safe.
    """

    files: dict[str, bytearray] = field(default_factory=dict)
    pending: dict[str, list[Written | Truncated]] = field(default_factory=dict)
    acked: set[bytes] = field(default_factory=set)

    def play(self, event: Event) -> None:
        """Apply one event."""
        match event:
            case Written(file) | Truncated(file):
                self.pending.setdefault(file, []).append(event)
            case Synced(file):
                content = self.files.setdefault(file, bytearray())
                for change in self.pending.pop(file, []):
                    _apply(content, change)
            case Deleted(file):
                self.files.pop(file, None)
                self.pending.pop(file, None)
            case Acknowledged(decisions):
                self.acked |= decisions

    def crashed(self, survival: Survival, generator: random.Random) -> dict[str, bytes]:
        """Return the files as they may be found after a power cut now."""
        found = {name: bytearray(content) for name, content in self.files.items()}
        for name, changes in self.pending.items():
            content = found.setdefault(name, bytearray())
            for change in _surviving(changes, survival, generator):
                _apply(content, change)
        return {name: bytes(content) for name, content in found.items()}


def _surviving(
    changes: list[Written | Truncated], survival: Survival, generator: random.Random
) -> Iterator[Written | Truncated]:
    match survival:
        case Survival.NOTHING:
            return
        case Survival.EVERYTHING:
            yield from changes
        case Survival.A_PREFIX:
            yield from changes[: generator.randint(0, len(changes))]
        case Survival.ANY_SUBSET:
            yield from (change for change in changes if generator.random() < 0.5)
        case Survival.HALF_OF_THE_LAST:
            *whole, last = changes
            yield from whole
            if isinstance(last, Written):
                kept = len(last.data) // 2 // _SECTOR * _SECTOR or len(last.data) // 2
                yield Written(last.file, last.offset, last.data[:kept])


def _apply(content: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Truncated):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data
