"""Writers: runs of servers, how they ended, and what is done about decisions they did not count."""

from typing import NamedTuple


class WriterState(NamedTuple):
    """A run of a server, as the store knows it.

    Attributes:
        incarnation: Random mark of the run, 16 bytes.
        slot: Where it counts; None once the slot was given away.
        sequence: The last of its flushes that was added.
        seen_at: When it last said that it lives, in microseconds since 1970 on the clock that writers share.
        code: The version of its code; None before 0.3.0.
        ended_at: Since when none of its flushes is added any more; None while it may go on.
    """

    incarnation: bytes
    slot: int | None
    sequence: int
    seen_at: int
    code: str | None
    ended_at: int | None = None


class EndedRun(NamedTuple):
    """A run of a server that ended before all its decisions were counted.

    Attributes:
        sequence: Its last flush that was added.
        flushed_ms: No decision that a later flush would have carried was made before, in milliseconds.
    """

    sequence: int
    flushed_ms: int


class MoveStep(NamedTuple):
    """What one transaction moved: outcomes of uncounted decisions, to a basis that is not compared.

    Attributes:
        n_rows: Rows of the log that it changed.
        experiments: Whose facts changed.
        is_done: Whether nothing is left of that run.
    """

    n_rows: int
    experiments: frozenset[int]
    is_done: bool
