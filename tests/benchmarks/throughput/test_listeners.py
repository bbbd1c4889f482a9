"""The comparison of listeners: its prepared requests, its load client, and what it leaves out."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from struct import iter_unpack, unpack_from

import pytest
from hpack import Decoder

from benchmarks.harness.load_client import LoadError
from benchmarks.harness.processes import Child
from benchmarks.throughput.echo import METHOD
from benchmarks.throughput.interleaved import echoing
from benchmarks.throughput.listeners.comparing import Effort
from benchmarks.throughput.listeners.prepared import Deadline, Heading, write_requests
from benchmarks.throughput.listeners.programs import BuildError, LoadProgram, build_go_echo, build_load_client
from benchmarks.throughput.listeners.rows import Goal, Measure, Name
from benchmarks.throughput.listeners.runs import Shape, run
from benchmarks.throughput.listeners.sites import Choice, compare_listeners

EFFORT = Effort(n_rounds=1, seconds=0.5)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> LoadProgram:
    """Build the load client."""
    return build_load_client(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def echo() -> Iterator[Child]:
    """Run an echo."""
    with echoing(150) as child:
        yield child


def slices_of(file: Path) -> list[list[tuple[bytes, bytes]]]:
    """Return header block and body of every request, slice by slice."""
    data = file.read_bytes()
    at = 0

    def number() -> int:
        nonlocal at
        at += 4
        return int(unpack_from(">I", data, at - 4)[0])

    def piece() -> bytes:
        nonlocal at
        length = number()
        at += length
        return data[at - length : at]

    slices = [[(piece(), piece()) for _ in range(number())] for _ in range(number())]
    assert at == len(data)
    return slices


@pytest.mark.parametrize("deadline", Deadline)
def test_a_slice_can_be_walked_again(deadline: Deadline, tmp_path: Path) -> None:
    """Its header blocks mean the same the second time, on the table that the first time left behind."""
    file = tmp_path / "requests"
    heading = Heading(method="/some.Service/Call", authority="127.0.0.1:1", deadline=deadline, token="t")  # noqa: S106 - no token
    write_requests(file, heading, [b"message"] * 400, 2)
    for part in slices_of(file):
        decoder = Decoder()
        walks = [
            [[(str(n), str(v)) for n, v in decoder.decode(block)] for block, _ in part] for _ in range(2)
        ]
        assert walks[0] == walks[1]
        assert (":path", "/some.Service/Call") in walks[0][-1]
        timeouts = {value for fields in walks[0] for name, value in fields if name == "grpc-timeout"}
        assert {Deadline.NONE: 0, Deadline.EQUAL: 1, Deadline.CHANGING: len(part)}[deadline] == len(timeouts)


def test_each_connection_has_messages_of_its_own(tmp_path: Path) -> None:
    """Slices share no message, so that a reward is sent once; each message has the prefix of gRPC."""
    file = tmp_path / "requests"
    heading = Heading(method="/some.Service/Call", authority="127.0.0.1:1")
    write_requests(file, heading, [bytes([number]) for number in range(8)], 4)
    bodies = [[body for _, body in part] for part in slices_of(file)]
    assert bodies == [[b"\0\0\0\0\1" + bytes(pair[:1]), b"\0\0\0\0\1" + bytes(pair[1:])] for pair in PAIRS]


PAIRS = [bytes(pair) for pair in iter_unpack("BB", bytes(range(8)))]


@needs_compiler
def test_calls_by_schedule_come_at_their_rate(program: LoadProgram, echo: Child, tmp_path: Path) -> None:
    """At 200 a second for half a second no more than a hundred are answered, though the echo is faster."""
    file = tmp_path / "requests"
    write_requests(file, Heading(method=METHOD, authority=echo.address), [b"message"] * 8, 2)
    shape = Shape(n_connections=2, n_in_flight=4)
    slow = run(program, shape, file, address=echo.address, pid=echo.pid, seconds=0.5, rate=200)
    assert 10 <= slow.n_answers <= 110
    fast = run(program, shape, file, address=echo.address, pid=echo.pid, seconds=0.5)
    assert fast.n_answers > 110
    assert 0 < fast.server_cpu_seconds < 5
    assert fast.p50_us <= fast.p99_us <= fast.p999_us


@needs_compiler
def test_a_failed_call_is_an_error(program: LoadProgram, echo: Child, tmp_path: Path) -> None:
    """Answers without a message, as those of a method that is not there, are no calls to be proud of."""
    file = tmp_path / "requests"
    write_requests(file, Heading(method="/some.Service/Call", authority=echo.address), [b""] * 8, 2)
    shape = Shape(n_connections=2, n_in_flight=4)
    with pytest.raises(LoadError, match=r"\d+ calls failed"):
        run(program, shape, file, address=echo.address, pid=echo.pid, seconds=0.2)


@needs_compiler
def test_listeners_are_compared_without_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast lane has its ratios to the default listener; those to grpc-go are missing, with a note."""
    folders = [each for each in os.environ["PATH"].split(":") if not (Path(each) / "go").exists()]
    monkeypatch.setenv("PATH", ":".join(folders))
    wanted = "[RC]*, 10 arms, [1d]*, 8 \N{MULTIPLICATION SIGN} 8"
    titles: list[str] = []
    found = compare_listeners(tmp_path, Choice(rows=wanted, has_fast=True, effort=EFFORT), titles.append)
    choose, reward = found.rows
    assert len(titles) == 2
    assert [each.name for each in choose.subjects] == [Name.DEFAULT, Name.FAST, Name.AIO_ECHO]
    assert [each.name for each in reward.subjects] == [Name.DEFAULT, Name.FAST]
    for row in found.rows:
        assert [ratio.goal.to for ratio in row.ratios] == [Name.DEFAULT, Name.FAST]
    assert all(each.scheduled.n_answers > 0 for row in found.rows for each in row.subjects)
    assert any("the echo on grpc-go was left out: Go is missing" in note for note in found.notes)


def test_without_a_compiler_the_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no figures, and a note says what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    choice = Choice(rows="*", has_fast=True, effort=EFFORT)
    found = compare_listeners(tmp_path, choice, lambda _: None)
    assert found.rows == []
    assert (
        found.notes[-1] == "the listeners were not compared: a C compiler is missing: `cc` is not on the PATH"
    )


def test_without_go_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="Go is missing: `go` is not on the PATH"):
        build_go_echo(tmp_path)


@pytest.mark.parametrize(("ratio", "is_met"), [(7.9, False), (8.0, True), (9.0, True)])
def test_a_goal_is_met_from_its_limit_on(ratio: float, is_met: bool) -> None:  # noqa: FBT001
    """A least ratio is good itself; a greatest one likewise, seen from the other side."""
    least = Goal(measure=Measure.RATE, of=Name.FAST, to=Name.DEFAULT, least=8.0)
    most = Goal(measure=Measure.CPU, of=Name.FAST, to=Name.GO_ECHO, most=1 / 8)
    assert least.is_met(ratio) is is_met
    assert most.is_met(1 / ratio) is is_met
