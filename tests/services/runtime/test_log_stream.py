"""The stream of log lines: it neither fails nor waits, and says what it dropped."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from server.services.runtime.log_stream import LogStream

LINE = '{"event": "x"}\n'


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return both ends of a pipe that holds one page."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_lines_are_written_as_they_are(tmp_path: Path) -> None:
    """Lines arrive in order, also long ones, and ones that are no Unicode."""
    with (tmp_path / "log").open("wb") as file:
        stream = LogStream(file.fileno())
        for line in (LINE, "é" * 10_000 + "\n", "\udcff\n"):
            stream.write(line)
    assert (tmp_path / "log").read_text() == LINE + "é" * 10_000 + "\n" + "\\udcff\n"
    assert stream.n_lost == 0


def test_a_stopped_reader_costs_a_moment_once(pipe: tuple[int, int]) -> None:
    """While nobody reads, a thousand lines are dropped without waiting for each; the next one is whole."""
    reader, writer = pipe
    stream = LogStream(writer)
    before = time.monotonic()
    for _ in range(1_500):
        stream.write(LINE)
    assert time.monotonic() - before < 5
    assert stream.n_lost > 1_000
    taken = os.read(reader, 1 << 16).decode()
    stream.write(LINE)
    assert stream.n_lost == 0
    lines = (taken + os.read(reader, 1 << 16).decode()).splitlines()
    assert set(lines) == {LINE.strip()}


def test_a_torn_line_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    """A line that is longer than the pipe is cut where the reader stopped, and the next begins a line."""
    reader, writer = pipe
    stream = LogStream(writer)
    stream.write("y" * 10_000 + "\n")
    assert stream.n_lost == 1
    taken = os.read(reader, 1 << 16).decode()
    stream.write(LINE)
    assert (taken + os.read(reader, 1 << 16).decode()).splitlines()[-1] == LINE.strip()


def test_a_slow_reader_gets_everything(pipe: tuple[int, int]) -> None:
    """A reader that keeps reading gets every line, though the pipe is full most of the time."""
    reader, writer = pipe
    found = bytearray()

    def read() -> None:
        while data := os.read(reader, 512):
            found.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    stream = LogStream(writer)
    for _ in range(2_000):
        stream.write(LINE)
    os.close(writer)
    thread.join()
    assert stream.n_lost == 0
    assert found.decode() == LINE * 2_000


def test_nothing_is_raised_for_a_reader_that_left(pipe: tuple[int, int]) -> None:
    """A closed pipe, a full disk and a closed descriptor drop the line."""
    reader, writer = pipe
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for descriptor in (writer, full, 10_000):
        stream = LogStream(descriptor)
        stream.write(LINE)
        assert stream.n_lost == 1
    os.close(full)


def test_threads_leave_whole_lines() -> None:
    """Threads that log beside each other do not mix their lines."""
    reader, writer = os.pipe()
    stream = LogStream(writer)
    threads = [threading.Thread(target=lambda: [stream.write(LINE) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.read(reader, 1 << 16).decode() == LINE * 200
    os.close(reader)
    os.close(writer)
