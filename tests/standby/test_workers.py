"""`--workers`: several processes on one port form one server, which survives the loss of any of them."""

import os
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from benchmarks.harness.processes import REPOSITORY, clean_environment
from server.settings import Settings
from tests.conftest import Connect
from tests.standby.conftest import StartOn
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import ServerProcess, command, eventually, run_command
from tests.support.wire import CALL_SECONDS, Wire

N_WORKERS = 3


def pids(server: ServerProcess) -> dict[int, int]:
    """Return worker number to its latest process id."""
    started = [event for event in server.events() if event["event"] == "worker.started"]
    return {event["worker"]: event["pid"] for event in started}


def is_running(pid: int) -> bool:
    """True if the process exists and has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def n_starts(server: ServerProcess, worker: int) -> int:
    """Return how often a worker has begun to serve."""
    events = [event["event"] for event in server.events() if event.get("worker") == worker]
    return events.count("server.serving")


def n_that_answered(url: str) -> int:
    """Return the number of writers that have counted decisions."""
    ((count,),) = query(url, "SELECT count(*) FROM writers WHERE sequence > 0")
    return int(count)


def choose_on_new_connections(address: str, name: str, n_connections: int) -> None:
    """Make one call on each of `n_connections` connections; all must be answered."""
    for _ in range(n_connections):
        # With the default pool, all channels of this process would share one connection.
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = bandit_pb2_grpc.BanditServiceStub(channel)
            stub.Choose(bandit_pb2.ChooseRequest(experiment=name), timeout=CALL_SECONDS)


def test_workers_are_one_server_that_outlives_any_of_them(
    postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect
) -> None:
    """Three processes answer at one port, a killed one is replaced, and SIGTERM ends all with exit code 0."""
    url = postgresql.create_database()
    server = start_on(url, "--workers", str(N_WORKERS), "--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running()
    first = pids(server)
    assert len(set(first.values()) | {server.process.pid}) == N_WORKERS + 1
    choose_on_new_connections(server.address, name, 60)  # (2/3)^60 < 1e-10: each worker gets one
    eventually(lambda: n_that_answered(url), until=lambda count: count == N_WORKERS)
    eventually(
        lambda: n_counted(url), until=lambda count: count == 60
    )  # unflushed counts are lost with a worker

    os.kill(first[2], signal.SIGKILL)
    second = eventually(lambda: pids(server), until=lambda found: found[2] != first[2])
    (died,) = [event for event in server.events() if event["event"] == "worker.died"]
    assert (died["worker"], died["exit_code"]) == (2, -signal.SIGKILL)
    wire.channel.close()
    again = connect(server)
    eventually(lambda: n_serving(server), until=lambda count: count == N_WORKERS + 1)
    choose_on_new_connections(server.address, name, 60)
    eventually(lambda: n_that_answered(url), until=lambda count: count == N_WORKERS + 1)
    assert again.choose(name).arm
    ports = {event["port"] for event in server.events() if event["event"] == "metrics.serving"}
    assert len(ports) == N_WORKERS + 1
    assert server.terminate() == 0
    assert not any(map(is_running, second.values()))
    assert [event["exit_code"] for event in server.events() if event["event"] == "server.stopped"] == [0] * 4
    assert n_counted(url) == 121


def n_counted(url: str) -> int:
    """Return the number of decisions that were flushed."""
    ((decisions,),) = query(url, "SELECT SUM(decisions) FROM decision_facts")
    return int(decisions or 0)


def n_serving(server: ServerProcess) -> int:
    """Return the number of workers that have ever begun to serve."""
    return len([e for e in server.events() if e["event"] == "server.serving" and "worker" in e])


def test_workers_do_not_outlive_their_parent(postgresql: PostgresqlProcess, start_on: StartOn) -> None:
    """When the parent is killed, its workers drain and end."""
    server = start_on(postgresql.create_database(), "--workers", "2")
    server.kill()
    eventually(lambda: not any(map(is_running, pids(server).values())))
    events = [event["event"] for event in server.events()]
    assert events.count("server.stopped") == 2


def test_a_worker_is_replaced_after_the_working_directory_was_deleted(
    postgresql: PostgresqlProcess, tmp_path: Path
) -> None:
    """As when a release is deleted after the next one is in place: the parent lives, and stops on SIGTERM."""
    release, log = tmp_path / "release", tmp_path / "log"
    release.mkdir()
    url = postgresql.create_database()
    arguments = command("serve", "--listen", "127.0.0.1:0", "--workers", "2", "--database", url)
    environment = clean_environment() | {"PYTHONPATH": str(REPOSITORY)}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            arguments, cwd=release, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            server = ServerProcess(process, tmp_path / "bandit.db", log, address)
            eventually(lambda: n_starts(server, worker=1))  # it logs that only after its parent has
            release.rmdir()
            os.kill(pids(server)[1], signal.SIGKILL)
            eventually(lambda: n_starts(server, worker=1), until=lambda count: count == 2)
            assert server.terminate() == 0
        finally:
            process.kill()


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_second_server_at_the_port_is_refused(
    postgresql: PostgresqlProcess, start_on: StartOn, tmp_path: Path, first: int, second: int
) -> None:
    """It is refused whatever the number of workers, as it would silently take some of the traffic."""
    url = postgresql.create_database()
    server = start_on(url, "--workers", str(first))
    arguments = ("--listen", server.address, "--database", url, "--workers", str(second))
    done = run_command("serve", *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: can't listen at {server.address}")


def test_workers_are_at_every_address(
    postgresql: PostgresqlProcess, start_on: StartOn, tmp_path: Path
) -> None:
    """They share each address of a name, and no other server gets one of them."""
    url = postgresql.create_database()
    server = start_on(url, "--workers", "2", "--listen", "localhost:0")
    assert server.address == f"localhost:{server.port}"
    for host in ("127.0.0.1", "[::1]"):
        address = f"{host}:{server.port}"
        with closing(Wire(address)) as wire:
            assert wire.health_of("") == health_pb2.HealthCheckResponse.SERVING
        arguments = ("--listen", address, "--database", url, "--workers", "2")
        done = run_command("serve", *arguments, folder=tmp_path)
        assert done.returncode == 1
        assert f"can't listen at {address}: {address} is taken by" in done.stderr.splitlines()[-1]


def test_workers_that_fail_to_start_end_the_server(postgresql: PostgresqlProcess, tmp_path: Path) -> None:
    """One line gives the reason, as without workers."""
    url = postgresql.create_database()
    query(url, "CREATE TABLE songs (title text)")
    listen = ("--listen", "127.0.0.1:0", "--database", url, "--workers", "2")
    done = run_command("serve", *listen, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the database holds other tables (songs)")
    assert "Traceback" not in done.stderr


def test_workers_wait_for_a_database_together(
    own_postgresql: PostgresqlProcess, start_on: StartOn, connect: Connect
) -> None:
    """Without a snapshot, all of them wait, and all serve once the database is there."""
    url = own_postgresql.create_database()
    own_postgresql.stop(signal.SIGQUIT)
    server = start_on(url, "--workers", "2")
    assert server.process.stdout is not None
    own_postgresql.start()
    assert server.process.stdout.readline() == f"bandit-server is serving at {server.address}\n"
    assert connect(server).running()


POSTGRESQL = "postgresql+psycopg://u@h/d"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"workers": 2}, "needs PostgreSQL: an SQLite file has one writer at a time"),
        ({"workers": 2, "database": POSTGRESQL, "metrics_listen": "127.0.0.1:50050"}, "50050 to 50051"),
        ({"workers": 2, "database": POSTGRESQL, "metrics_listen": "127.0.0.1:65535"}, "65535 to 65536"),
        ({"workers": 2, "database": POSTGRESQL, "listen": "unix:s"}, "must be 1 to listen at a Unix socket"),
        (
            {"workers": 2, "database": POSTGRESQL, "fast_listen": "unix:s"},
            "must be 1 to listen at a Unix socket",
        ),
        (
            {
                "workers": 2,
                "database": POSTGRESQL,
                "metrics_listen": "127.0.0.1:9000",
                "fast_listen": "127.0.0.1:9001",
            },
            "9000 to 9001",
        ),
        ({"snapshot": "s", "database": POSTGRESQL}, "must come with keys"),
        ({"keys": "k", "database": POSTGRESQL}, "must come with snapshot"),
        ({"snapshot": "s", "keys": "k"}, "needs PostgreSQL: an SQLite file is on the server's own disk"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], text: str) -> None:
    """The error gives the reason."""
    with pytest.raises(ValueError, match=text):
        Settings.model_validate(settings)


def test_sigterm_during_the_start_ends_with_0(postgresql: PostgresqlProcess, tmp_path: Path) -> None:
    """SIGTERM does not kill a worker before its handler is installed: the exit code is 0."""
    arguments = ("serve", "--listen", "127.0.0.1:0", "--workers", "2")
    with subprocess.Popen(
        command(*arguments, "--database", postgresql.create_database()),
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=clean_environment(),
        text=True,
    ) as server:
        assert server.stderr is not None
        assert "worker.started" in server.stderr.readline()
        assert "worker.started" in server.stderr.readline()
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0
