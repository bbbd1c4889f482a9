"""Whole servers with a fast lane: where it is, who has the port, and how it ends."""

import socket
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from tests.conftest import StartServer
from tests.support.process import FAST_LANE, ServerProcess, run_command
from tests.support.wire import Wire


def is_serving(address: str | None) -> bool:
    """True if a server's health says so."""
    assert address is not None
    wire = Wire(address)
    try:
        return wire.health_of("") == health_pb2.HealthCheckResponse.SERVING
    finally:
        wire.close()


def is_answering(server: ServerProcess, address: str) -> bool:
    """True if a server's data plane answers at an address of its fast lane."""
    wire = Wire(server.address, data_address=address)
    decision = wire.choose(wire.running())
    results = wire.reward(decision.decision_id, {"click": 1})
    wire.close()
    return len(results) == 1


@pytest.mark.parametrize(
    ("host", "loopbacks"), [("localhost", ("127.0.0.1", "[::1]")), ("[::1]", ("[::1]",))]
)
def test_calls_are_answered_at_every_address(
    start_server: StartServer, host: str, loopbacks: tuple[str, ...]
) -> None:
    """They arrive by IPv4 and IPv6, at one port."""
    server = start_server("--fast-listen", f"{host}:0")
    port = server.port_of(FAST_LANE)
    assert all(is_answering(server, f"{loopback}:{port}") for loopback in loopbacks)


def test_a_second_line_has_its_address(start_server: StartServer) -> None:
    """Both addresses serve health; the log and the metrics know of the fast lane."""
    server = start_server("--fast-listen", "localhost:0", "--metrics-listen", "127.0.0.1:0")
    assert server.fast_address is not None
    assert server.fast_address.startswith("localhost:")
    assert is_serving(server.address)
    assert is_serving(server.fast_address)
    (event,) = [event for event in server.events() if event["event"] == "fast_lane.serving"]
    assert event["address"] == server.fast_address
    assert server.sample("bandit_fast_lane_connections_accepted_total") >= 1
    assert server.sample("bandit_fast_lane_connections_refused_total", reason="address") == 0
    assert server.terminate() == 0


def test_its_unix_socket_is_removed(start_server: StartServer, tmp_path: Path) -> None:
    """Calls are answered at a file while the server runs, and the file is there no longer."""
    address = f"unix:{tmp_path}/f.sock"
    server = start_server("--fast-listen", address)
    assert server.fast_address == address
    assert is_answering(server, address)
    assert server.terminate() == 0
    assert not (tmp_path / "f.sock").exists()


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    """It names the setting, the address and who has it; the other socket's file is not left behind."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        listen = ("--listen", f"unix:{tmp_path}/a.sock", "--fast-listen", address)
        done = run_command("serve", *listen, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: --fast-listen: can't listen at {address}: ")
    assert not (tmp_path / "a.sock").exists()
