"""Unix sockets: whose the file is, who may call through it, and that nobody loses an address to another."""

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bandit.client import BanditClient, Fallback, Tls
from benchmarks.harness.processes import REPOSITORY, start
from server.listening.errors import ListenError
from server.listening.unix_socket import MODE, UnixSocket
from tests.conftest import StartServer
from tests.rpc.raw_http2 import END_HEADERS, HEADERS, RawConnection, frame_bytes, headers_of
from tests.support.certificates import Authority
from tests.support.process import ServerProcess, command, run, run_command
from tests.support.wire import CALL_SECONDS, Wire

BEARER: Final = "opaque-bearer"
CHOOSE: Final = "/bandit.v1.BanditService/Choose"
FALLBACK: Final = Fallback("none")
ON_LINUX: Final = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path, which is the working directory."""
    with tempfile.TemporaryDirectory(prefix="b") as name:
        monkeypatch.chdir(name)
        yield Path(name)


def is_serving(target: str) -> bool:
    """True if a server's health says so."""
    wire = Wire(target)
    try:
        return wire.health_of("") == health_pb2.HealthCheckResponse.SERVING
    finally:
        wire.close()


def refusal(address: str, folder: Path, *prefix: str) -> str:
    """Return the last line of a server that can't listen at an address; its exit code is 1."""
    database = f"sqlite:///{folder}/refused.db"
    done = run([*prefix, *command("serve", "--listen", address, "--database", database)], folder)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: can't listen at {address}: ")
    return last


@pytest.mark.parametrize(
    "form",
    [
        "unix:{}/a.sock",
        "unix://{}/a.sock",
        "unix:{}/with%20space.sock",
        "unix:{}/josé.sock",
        pytest.param("unix-abstract:{}", marks=ON_LINUX),
    ],
)
def test_calls_arrive(start_server: StartServer, folder: Path, form: str) -> None:
    """The client, a command, and a health check reach the server by the address that it was given."""
    address = form.format(folder)
    server = start_server("--listen", address)
    assert server.address == address
    assert is_serving(address)
    wire = Wire(address)
    name = wire.running()
    wire.close()
    with BanditClient(address, choose_timeout=CALL_SECONDS, token=BEARER) as client:
        choice = client.choose(name, fallback=FALLBACK)
    assert choice.fallback_cause is None
    done = run_command("experiment", "show", name, "--server", address, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.terminate() == 0
    assert [entry for entry in folder.iterdir() if entry.is_socket()] == []


def test_a_relative_path_is_of_the_working_directory(folder: Path) -> None:
    """The server's own; a settings file and the environment take such addresses, too."""
    (folder / "bandit-server.toml").write_text('listen = "unix:a.sock"')
    process, line = start(("-m", "server", "serve"), folder, folder / "log", {"PYTHONPATH": str(REPOSITORY)})
    try:
        assert line == "bandit-server is serving at unix:a.sock"
        assert (folder / "a.sock").is_socket()
        done = run(command("experiment", "list"), folder, BANDIT_SERVER="unix:a.sock")
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        process.terminate()
        process.communicate()
    done = run(command("serve"), folder, BANDIT_LISTEN="unix:missing/a.sock")
    assert done.stderr.splitlines()[-1].startswith("error: can't listen at unix:missing/a.sock: missing: ")


def test_the_file_is_for_the_user_and_the_group(start_server: StartServer, folder: Path) -> None:
    """Its mode is 660, whatever the umask, and no other file is left beside it."""
    old = os.umask(0)
    try:
        start_server("--listen", f"unix:{folder}/a.sock")
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "a.sock").stat().st_mode) == 0o660 == MODE
    assert [entry.name for entry in folder.iterdir()] == ["a.sock"]


def test_the_socket_of_a_killed_server_is_replaced(start_server: StartServer, folder: Path) -> None:
    """Its file stays, and the next server takes its place."""
    address = f"unix:{folder}/a.sock"
    start_server("--listen", address).kill()
    assert (folder / "a.sock").is_socket()
    start_server("--listen", address)
    assert is_serving(address)


def test_the_socket_of_a_living_server_is_not(start_server: StartServer, folder: Path) -> None:
    """Another server is refused, by any spelling of the path, and the first goes on."""
    start_server("--listen", f"unix:{folder}/a.sock")
    for address in (f"unix:{folder}/a.sock", "unix:a.sock", f"unix://{folder}/../{folder.name}/a.sock"):
        assert "another server listens there. Stop it" in refusal(address, folder)
    assert is_serving(f"unix:{folder}/a.sock")


def test_a_server_leaves_what_has_replaced_it(
    start_server: StartServer, folder: Path, tmp_path: Path
) -> None:
    """Someone removes its file, and starts another server there: the first ends without taking that away."""
    address = f"unix:{folder}/a.sock"
    first = start_server("--listen", address)
    (folder / "a.sock").unlink()
    other = ServerProcess.start(tmp_path / "other.db", "--listen", address)
    assert first.terminate() == 0
    assert is_serving(address)
    assert other.terminate() == 0
    assert not (folder / "a.sock").exists()


@ON_LINUX
def test_an_abstract_name_is_taken_once(start_server: StartServer, folder: Path) -> None:
    """A second server is refused, and with the first the name is gone."""
    address = f"unix-abstract:{folder}"
    first = start_server("--listen", address)
    assert "another program has this name" in refusal(address, folder)
    first.kill()
    start_server("--listen", address)
    assert is_serving(address)


def a_file(path: Path) -> None:
    """Put a regular file there."""
    path.write_text("kept")


def a_link(path: Path) -> None:
    """Put a link to another socket there."""
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(str(path.with_name("other")))
    path.symlink_to("other")


@pytest.mark.parametrize("put", [a_file, a_link, Path.mkdir])
def test_what_is_no_socket_is_left_alone(folder: Path, put: Callable[[Path], None]) -> None:
    """A file, a link or a folder at the path is refused and kept."""
    path = folder / "a.sock"
    put(path)
    before = path.lstat()
    assert "what is there is not a socket; it was left alone" in refusal(f"unix:{path}", folder)
    assert path.lstat() == before


def test_a_folder_that_can_not_be_used_is_named(folder: Path) -> None:
    """It is missing, a file, or another user's."""
    (folder / "file").touch()
    (folder / "locked").mkdir(mode=0o555)
    assert "No such file or directory" in refusal("unix:missing/a.sock", folder)
    assert "file: Not a directory" in refusal("unix:file/a.sock", folder)
    powerless = [shutil.which("setpriv") or "setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    prefix = powerless if os.geteuid() == 0 else []
    assert "locked: this user may not create files there" in refusal("unix:locked/a.sock", folder, *prefix)


def test_two_servers_at_once_do_not_both_listen(folder: Path) -> None:
    """While one looks and binds, another waits for it, and then finds it listening."""
    path = str(folder / "a.sock")
    with ExitStack() as stack:
        bound = stack.enter_context(socket.socket(socket.AF_UNIX))
        with UnixSocket("unix:a", path).placed() as own:
            bound.bind(str(own))
            bound.listen()
            locking = (
                "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX | fcntl.LOCK_NB)"
            )
            other = subprocess.run(
                [sys.executable, "-c", locking, str(folder)], capture_output=True, check=False, text=True
            )
            assert os.strerror(errno.EWOULDBLOCK) in other.stderr
        with (
            pytest.raises(ListenError, match="another server listens there"),
            UnixSocket("unix:a", path).placed(),
        ):
            pass


def test_a_path_may_have_as_many_bytes_as_the_system_takes(start_server: StartServer, folder: Path) -> None:
    """One byte more is a wrong setting, and to the client a wrong target."""
    longest = f"unix:{folder}/".ljust(107 + len("unix:") if sys.platform == "linux" else 108, "a")
    start_server("--listen", longest)
    assert is_serving(longest)
    done = run_command("serve", "--listen", f"{longest}a", folder=folder)
    assert done.returncode == 2
    assert "--listen: the path of a Unix socket has at most" in done.stderr
    with pytest.raises(ValueError, match="the path of a Unix socket has at most"):
        BanditClient(f"{longest}a")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda _path: None,
            "there is no socket unix:a.sock: start a server with `bandit-server serve --listen",
        ),
        (lambda path: path.touch(), "no server answers at unix:a.sock: start one with"),
    ],
)
def test_commands_say_what_is_wrong_with_a_socket(
    folder: Path, make: Callable[[Path], None], text: str
) -> None:
    """The error names the socket, and what to do."""
    make(folder / "a.sock")
    done = run_command("experiment", "list", "--server", "unix:a.sock", folder=folder)
    assert done.returncode == 1
    assert text in done.stderr


def test_a_socket_of_another_user_is_said_to_be(start_server: StartServer, folder: Path) -> None:
    """Who may not write to the file is told which user and group may call."""
    start_server("--listen", f"unix:{folder}/a.sock")
    (folder / "a.sock").chmod(0)
    setpriv = [shutil.which("setpriv") or "setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    prefix = setpriv if os.geteuid() == 0 else []
    done = run([*prefix, *command("experiment", "list", "--server", "unix:a.sock")], folder)
    assert done.returncode == 1
    assert "this user may not call unix:a.sock: it must be the server's user, or of the" in done.stderr


def test_tls_and_proxies(start_server: StartServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS works with a certificate for localhost, and a proxy of the environment is not asked."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    authority = Authority.create()
    certificate, key = authority.issue("localhost").write(folder, "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    address = f"unix:{folder}/a.sock"
    start_server("--listen", address, "--tls-certificate", str(certificate), "--tls-key", str(key))
    with BanditClient(address, tls=Tls(ca=str(folder / "ca.pem")), choose_timeout=CALL_SECONDS) as client:
        cause = client.choose("missing", fallback=FALLBACK).fallback_cause
    assert cause is not None
    assert cause.code is grpc.StatusCode.NOT_FOUND


def test_a_flood_by_one_client_leaves_the_others_alone(start_server: StartServer, folder: Path) -> None:
    """Of too many calls without requests the oldest end: gRPC does not show which client made them."""
    address = f"unix:{folder}/a.sock"
    server = start_server("--listen", address, "--request-seconds", "3600")
    wire = Wire(address)
    name = wire.running()
    with ExitStack() as stack:
        floods: list[RawConnection] = []
        for _ in range(3):
            connected = socket.socket(socket.AF_UNIX)
            connected.settimeout(20)
            connected.connect(str(folder / "a.sock"))
            flooding = stack.enter_context(closing(RawConnection.over(connected)))
            flooding.flood(
                b"".join(
                    frame_bytes(HEADERS, END_HEADERS, 2 * number + 1, headers_of(CHOOSE))
                    for number in range(990)
                )
            )
            floods.append(flooding)
            assert wire.choose(name).arm
        assert b"TOO_MANY_INCOMPLETE_REQUESTS" in floods[0].answer(1)
        assert wire.choose(name).arm
    wire.close()
    assert {event["level"] for event in server.events()} == {"info"}
