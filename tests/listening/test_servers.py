"""Whole servers at names with several addresses: all of them, or an error."""

import socket
import urllib.request
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from tests.conftest import StartServer
from tests.support.process import ServerProcess, run_command
from tests.support.wire import Wire

LOOPBACKS = ("127.0.0.1", "[::1]")


def is_serving(address: str) -> bool:
    """True if a server's health says so."""
    wire = Wire(address)
    try:
        return wire.health_of("") == health_pb2.HealthCheckResponse.SERVING
    finally:
        wire.close()


def metrics_port(server: ServerProcess) -> int:
    """Return the port of a server's metrics."""
    (port,) = [event["port"] for event in server.events() if event["event"] == "metrics.serving"]
    return int(port)


@pytest.mark.parametrize(
    ("host", "flags"),
    [("localhost", ()), ("0.0.0.0", ("--insecure",)), ("[::]", ("--insecure",))],  # noqa: S104
)
def test_a_server_is_at_every_address(start_server: StartServer, host: str, flags: tuple[str, ...]) -> None:
    """Calls and scrapes arrive by IPv4 and IPv6, at one port each; the name stands in the first line."""
    server = start_server("--listen", f"{host}:0", "--metrics-listen", f"{host}:0", *flags)
    assert server.address == f"{host}:{server.port}"
    for loopback in LOOPBACKS:
        assert is_serving(f"{loopback}:{server.port}")
        with urllib.request.urlopen(f"http://{loopback}:{metrics_port(server)}/metrics", timeout=20) as page:
            assert b"bandit_incomplete_calls" in page.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_half_an_address_is_refused(tmp_path: Path, host: str, flag: str) -> None:
    """With one of the two addresses of localhost taken, a server says which, and does not start."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        address = f"localhost:{other.getsockname()[1]}"
        listen = ("--listen", "127.0.0.1:0", flag, address)
        done = run_command("serve", *listen, folder=tmp_path)
    what = "listen" if flag == "--listen" else "serve metrics"
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: can't {what} at {address}: ")
    assert f"{host}]:" in last or f"{host}:" in last
    assert "is taken by process" in last
