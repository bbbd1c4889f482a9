"""Standard streams that fail in one place, and only once: a full disk, a closed pipe, a closed descriptor.

A command that prints in the middle of its work must not end there: the rest of the work would be left undone
because nobody reads the first line. So output that can't be written is dropped, the command runs to its end,
and `exit_code` turns the failure into one line and an exit code. A pipe whose reader has left, as in
`bandit-server report NAME | head`, is no failure. Nothing can be told through a standard error that can't be
written; its text is dropped, too.
"""

import codecs
import errno
import io
import os
import select
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

ExitCode: TypeAlias = str | int | None

_ESCAPES: Final = "bandit-escapes"
_PLAIN: Final = dict(zip("·…±─▁▂▃▄▅▆▇█", ("*", "...", "+/-", "-", *"12345678"), strict=True))
"""What stands in for characters of our own output where the terminal has no Unicode."""

_done: ContextVar[str] = ContextVar("done", default="")


class _Output(io.FileIO):
    """A descriptor whose errors are kept in `failure`; what is written after the first one is dropped."""

    failure: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write, and return the number of bytes; all of them once writing has failed."""
        if self.failure is None:
            try:
                written = super().write(data)
                while written is None:  # another process made the pipe non-blocking, and it is full
                    _wait_until_writable(self.fileno())
                    written = super().write(data)
            except OSError as error:
                self.failure = error
            else:
                return written
        return memoryview(data).nbytes


class _Tried(_Output):
    """A descriptor whose errors are forgotten: each write is tried."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write if that is possible, and return the number of bytes."""
        self.failure = None
        return super().write(data)


def prepare() -> None:
    """Replace standard output and error by streams that never raise, and open what is closed.

    A closed descriptor is opened, since a database or a connection could otherwise get its number. It is
    opened the wrong way round, so that reading and writing still fail.
    """
    _open_if_closed(0, os.O_WRONLY)
    _open_if_closed(1, os.O_RDONLY)
    _open_if_closed(2, os.O_RDWR)
    codecs.register_error(_ESCAPES, _escaped)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it lives as long as the process
    if sys.stdout is None or isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _stream(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is None or isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _stream(_Tried(2, "w", closefd=False), sys.stderr)


def note_done(what: str) -> None:
    """Keep a sentence about a change that was made, to be shown if the output can't be written."""
    _done.set(what)


def take_failure() -> str:
    """Return why standard output can't be written, and forget it; empty if it can, or its reader has left."""
    raw = _raw_output()
    if raw is None:
        return ""
    sys.stdout.flush()
    failure, raw.failure = raw.failure, None
    if failure is None or failure.errno == errno.EPIPE:
        return ""
    if failure.errno == errno.EBADF:
        return "it is closed"
    return (failure.strerror or "it can't be written").lower()


def exit_code(code: ExitCode) -> ExitCode:
    """Return the exit code of a command that ended with `code`: 1 if its output could not be written.

    Prints one line about that, with what `note_done` keeps. The error of a failed command stays its own.
    """
    reason = take_failure()
    if not reason or code not in {0, None}:
        return code
    done = f"; this was done all the same: {_done.get()}" if _done.get() else ""
    sys.stderr.write(f"error: standard output could not be written: {reason}{done}\n")
    return 1


def _raw_output() -> _Output | None:
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", None)
    return raw if isinstance(raw, _Output) else None


def _open_if_closed(descriptor: int, flags: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, flags)
        if opened == descriptor:
            os.set_inheritable(descriptor, True)
        else:
            os.dup2(opened, descriptor)
            os.close(opened)


def _stream(raw: _Output, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    """Return a text stream on `raw` that escapes what its encoding lacks."""
    encoding = "utf-8" if before is None else before.encoding
    is_at_once = raw.isatty() or isinstance(raw, _Tried)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=_ESCAPES, line_buffering=is_at_once
    )


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Replace characters by plain ones, or by escapes that TOML and JSON read back; a handler for codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or _escape(ord(letter)) for letter in text), error.end


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the rule of TOML


def _wait_until_writable(descriptor: int) -> None:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    poller.poll()
