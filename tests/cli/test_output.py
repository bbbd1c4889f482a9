"""Output that can't be written: every command ends with one line, the right exit code and no traceback."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from bandit.client import BanditClient
from benchmarks.harness.processes import clean_environment
from tests.support.process import ServerProcess, command, eventually

RANKER = (Path(__file__).parent / "ranker.toml").read_text()
NO_TRACE = re.compile(r"Traceback|Exception ignored|Error:.*Errno")

PLAN: Final = "plan ranker.toml --decisions-per-day 1000 --base-rate 0.1"
READING: Final = (
    "--version",
    "--help",
    "experiment list",
    "experiment show ranker",
    "experiment example",
    "experiment unit ranker u1",
    "experiment apply ranker.toml --dry-run",
    "report ranker",
    "report ranker --json",
    "audit",
    "events ranker",
    "events ranker --json",
    "key list",
    PLAN,
    "clock show --database {url}",
    "verify --database {url}",
)
CHANGING: Final = {
    "choose ranker --count 3": "3 decisions made",
    "choose ranker --json": "1 decision made",
    "key rotate": "the key is rotated",
    "token new --caller x --role admin --append tokens.toml": "tokens.toml has the hash of a token",
    "experiment apply new.toml": "new is created",
    "backup --database {url} --force copy.db": "copied: copy.db",
    "clock repair --database {url}": "repaired: 0 seals lowered",
    "export ranker out --format csv --force --database {url}": "out is written",
}
"""What each command has done, as its error says."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start one server for the tests of this file, with one experiment that runs."""
    process = ServerProcess.start(tmp_path_factory.mktemp("server") / "bandit.db", "--poll-seconds", "0.1")
    folder = process.database.parent
    (folder / "ranker.toml").write_text(RANKER)
    for line in ("experiment apply ranker.toml", "experiment start ranker"):
        assert run(process, line).returncode == 0
    yield process
    assert process.terminate() == 0


def run(
    server: ServerProcess, line: str, shell: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the server's folder through a shell, with redirections after it."""
    text = " ".join(f"'{word}'" for word in command(*line.format(url=server.url).split()))
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {text} {shell}"],
        cwd=server.database.parent,
        env=clean_environment() | {"BANDIT_SERVER": server.address} | environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def run_on_terminal(server: ServerProcess, line: str, width: int) -> str:
    """Return what a command prints on a terminal of this width, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = clean_environment() | {"BANDIT_SERVER": server.address, "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        command(*line.format(url=server.url).split()),
        cwd=server.database.parent,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    found = bytearray()
    with suppress(OSError):  # the last one has closed the terminal
        while data := os.read(ours, 1 << 16):
            found += data
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize("line", READING)
def test_a_full_disk_is_one_line_and_a_failure(server: ServerProcess, line: str) -> None:
    """A script must not take half of the output for all of it."""
    done = run(server, line, "> /dev/full")
    assert done.stderr == "error: standard output could not be written: no space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("line", READING)
def test_a_closed_pipe_is_no_error(server: ServerProcess, line: str) -> None:
    """`| head -1` reads what it needs, and the command ends as if all had been read."""
    done = run(server, line, "| true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", READING)
def test_a_closed_output_is_one_line_and_a_failure(server: ServerProcess, line: str) -> None:
    """As the tools of the system do it: what was asked for was shown to nobody."""
    done = run(server, line, ">&-")
    assert (done.returncode, done.stderr) == (
        1,
        "error: standard output could not be written: it is closed\n",
    )


@pytest.mark.parametrize("line", READING)
def test_input_and_errors_may_be_closed(server: ServerProcess, line: str) -> None:
    """Commands that read no input work without one, and without a standard error."""
    done = run(server, line, "<&- 2>&-")
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize(("line", "made"), CHANGING.items())
@pytest.mark.parametrize("shell", ["> /dev/full", ">&-"])
def test_a_change_that_can_not_be_printed_is_in_the_error(
    server: ServerProcess, line: str, made: str, shell: str
) -> None:
    """The command does its work to the end, and its error says what was done."""
    name = f"new-{len(shell)}"
    (server.database.parent / f"{name}.toml").write_text(RANKER.replace('"ranker"', f'"{name}"'))
    done = run(server, line.replace("new.toml", f"{name}.toml"), shell)
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: standard output could not be written: ")
    assert f"; this was done all the same: {made.replace('new is', f'{name} is')}" in error
    assert done.returncode == 1
    assert not NO_TRACE.search(done.stderr)


def test_a_closed_pipe_stops_no_change(server: ServerProcess) -> None:
    """`apply` prints the difference first; a reader that leaves after it does not undo the rest."""
    (server.database.parent / "piped.toml").write_text(RANKER.replace('"ranker"', '"piped"'))
    done = run(server, "experiment apply piped.toml", "| true")
    assert (done.returncode, done.stderr) == (0, "")
    with BanditClient(server.address) as client:
        assert client.experiments.get("piped").name == "piped"


@pytest.mark.parametrize(
    ("line", "code"), [("experiment show nothing", 1), ("report", 2), ("verify --database nonsense", 2)]
)
@pytest.mark.parametrize("shell", ["> /dev/full", ">&-", "| true", "2> /dev/full", "2>&-"])
def test_a_failed_command_keeps_its_exit_code(
    server: ServerProcess, line: str, code: int, shell: str
) -> None:
    """Its own error is the one that is printed, if it can be."""
    done = run(server, line, shell)
    assert done.returncode == code
    assert not NO_TRACE.search(done.stderr)
    assert "standard output" not in done.stderr


def test_a_closed_input_is_named(server: ServerProcess) -> None:
    """A file that is - is read from standard input."""
    done = run(server, "experiment apply -", "<&-")
    assert (done.returncode, done.stderr) == (1, "error: standard input: it is closed\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
@pytest.mark.parametrize(
    "line", ["report ranker", "experiment list", "experiment example", "audit", "--help"]
)
def test_a_locale_without_unicode_gets_text(server: ServerProcess, line: str, encoding: str) -> None:
    """Nothing fails, and what is not in the locale's characters is written in plain ones."""
    done = run(server, line, PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ranker" in done.stdout or line == "--help"


def test_a_file_that_a_plain_locale_printed_can_be_applied(server: ServerProcess) -> None:
    """Characters become escapes that TOML reads back, so nothing of a declaration is lost."""
    folder = server.database.parent
    text = RANKER.replace('"ranker"', '"plain"').replace("Does", "Does café 🦜")
    (folder / "plain.toml").write_text(text)
    assert run(server, "experiment apply plain.toml").returncode == 0
    assert run(server, "experiment show plain", "> shown.toml", PYTHONIOENCODING="latin-1").returncode == 0
    (folder / "shown.toml").write_text((folder / "shown.toml").read_text("latin-1"), "utf-8")
    assert run(server, "experiment apply shown.toml").stdout == "plain is unchanged\n"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "TkAgg"])
def test_a_page_is_drawn_by_its_own_backend_and_style(
    server: ServerProcess, tmp_path: Path, backend: str
) -> None:
    """A notebook sets a backend for all that it starts, and a style with LaTeX would need LaTeX."""
    style = tmp_path / "matplotlibrc"
    style.write_text("text.usetex: True\nfont.size: 40\n")
    plain, styled = (tmp_path / name for name in ("plain.html", "styled.html"))
    assert run(server, f"report ranker --html {plain}").returncode == 0
    done = run(server, f"report ranker --html {styled}", MPLBACKEND=backend, MATPLOTLIBRC=str(style))
    assert (done.returncode, done.stderr) == (0, "")
    sizes = [set(re.findall(r"font: \d+px", page.read_text())) for page in (plain, styled)]
    assert sizes[0] == sizes[1] != set()


def test_a_style_that_can_not_be_read_is_one_line(server: ServerProcess, tmp_path: Path) -> None:
    """The error says whose file it is."""
    style = tmp_path / "matplotlibrc"
    style.write_bytes(b"\xff\xfe")
    done = run(server, f"report ranker --html {tmp_path / 'page.html'}", MATPLOTLIBRC=str(style))
    assert done.returncode == 1
    assert not NO_TRACE.search(done.stderr)
    assert "matplotlib can't be loaded: " in done.stderr


def test_a_pipe_that_does_not_block_gets_everything(server: ServerProcess) -> None:
    """Some parents make the pipe non-blocking; a slow reader still gets all of the output."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    arguments = command("experiment", "example")
    with subprocess.Popen(arguments, stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            text = file.read()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert text == run(server, "experiment example").stdout


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize(
    "line",
    ["report ranker", "experiment list", "key list", PLAN],
)
def test_a_narrow_terminal_loses_nothing(server: ServerProcess, line: str, width: int) -> None:
    """Every number of the wide output is in the narrow one, and no line of a table is too long."""
    wide, narrow = (run_on_terminal(server, line, each) for each in (200, width))
    assert "…" not in narrow
    assert all(len(text) <= width for text in narrow.splitlines()[1:])
    shown = "".join(narrow.split())
    numbers = re.findall(r"\d[\d.,:-]*\d", re.sub(r"[▁▂▃▄▅▆▇█─]+", "", wide))
    assert [number for number in numbers if number not in shown] == []


def test_a_server_serves_while_its_log_is_not_read(tmp_path: Path) -> None:
    """A reader that is stopped stops no call; once it reads again, the log says how many lines it missed."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"\n" * 4096)
    with _serving(tmp_path, "> printed 2> fifo") as (process, _):
        printed = tmp_path / "printed"
        eventually(lambda: printed.exists() and printed.read_text().endswith("\n"))
        with BanditClient(printed.read_text().split()[-1]) as client:
            assert list(client.experiments.list()) == []
        with suppress(BlockingIOError):
            while os.read(reader, 1 << 16):
                pass
    assert process.returncode == 0
    events = [json.loads(line) for line in os.read(reader, 1 << 16).decode().splitlines() if line]
    assert events[0]["lines_lost"] >= 1
    assert all("lines_lost" not in event for event in events[1:])
    os.close(reader)
    os.close(filler)


@contextmanager
def _serving(folder: Path, shell: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a server through a shell that becomes it, and stop it at the end."""
    text = " ".join(
        command("serve", "--listen", "127.0.0.1:0", "--database", f"sqlite:///{folder}/bandit.db")
    )
    pid = folder / "pid"
    line = f"( echo $BASHPID > pid; exec {text} ) {shell}"
    process = subprocess.Popen(["bash", "-c", line], cwd=folder, env=clean_environment())
    log = folder / "log"
    try:
        eventually(lambda: pid.exists() and pid.read_text().strip())
        eventually(log.exists) if "2> log" in shell else None
        yield process, log
        os.kill(int(pid.read_text()), signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()


SITUATIONS: Final = {"full": "> /dev/full", "closed": ">&-", "piped": "| true"}


@pytest.mark.parametrize("shell", SITUATIONS.values(), ids=SITUATIONS)
def test_a_server_serves_though_its_address_can_not_be_printed(tmp_path: Path, shell: str) -> None:
    """It logs the address and why it was not printed, serves, and stops with 0."""
    with _serving(tmp_path, f"2> log {shell}") as (process, log):
        text = eventually(log.read_text, until=lambda text: "server.serving" in text)
        addresses = [each["address"] for each in map(json.loads, text.splitlines()) if "address" in each]
        address = addresses[-1]
        with BanditClient(address) as client:
            assert list(client.experiments.list()) == []
        text = log.read_text()
    assert process.returncode == 0
    assert ("address.not_printed" in text) is (shell != SITUATIONS["piped"])
    assert not NO_TRACE.search(text)


@pytest.mark.parametrize("shell", ["2> /dev/full", "2>&-", "2> >(true)"])
def test_a_server_serves_though_nobody_takes_its_log(tmp_path: Path, shell: str) -> None:
    """A log on a full disk, a closed one, and one whose reader has left cost log lines only."""
    with _serving(tmp_path, f"> printed {shell}") as (process, _):
        printed = tmp_path / "printed"
        eventually(lambda: printed.exists() and printed.read_text().endswith("\n"))
        address = printed.read_text().split()[-1]
        with BanditClient(address) as client:
            assert list(client.experiments.list()) == []
    assert process.returncode == 0
    assert (tmp_path / "printed").read_text().count("\n") == 1
