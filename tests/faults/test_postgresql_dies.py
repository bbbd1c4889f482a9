"""PostgreSQL is stopped, killed and frozen under load: Choose goes on, and no reward is lost or doubled."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import grpc

from bandit.v1 import bandit_pb2
from server.app import maintenance
from server.settings import Settings
from tests.replicas.conftest import running_replicas
from tests.support.ledger import decision_of
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import eventually
from tests.support.wire import Wire

N_WORKERS = 6
RECOVERY_SECONDS = 10.0
"""Within this time of its return the database is in use again, on a busy machine."""


class Load:
    """Workers that choose, and post what they chose until it is acknowledged; every tenth is posted again.

    Attributes:
        sent: Decisions for which a reward was sent.
        acked: Decisions whose reward was acknowledged.
        failures: Why calls of Choose failed.
        refusals: Codes of calls of Reward that failed.
        n_doubtful: Retries that came back as duplicates.
    """

    def __init__(self, wires: list[Wire], name: str) -> None:
        self._wires = wires
        self._name = name
        self._has_ended = threading.Event()
        self._lock = threading.Lock()
        self.sent: set[bytes] = set()
        self.acked: set[bytes] = set()
        self.failures: list[str] = []
        self.refusals: Counter[grpc.StatusCode] = Counter()
        self.n_doubtful = 0
        self.slowest_choose = 0.0
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(N_WORKERS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Works during the block; at its end every worker has its last reward acknowledged."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            for thread in self._threads:
                thread.join()

    def _work(self, number: int) -> None:
        wire = self._wires[number % len(self._wires)]
        n_done = number
        while not self._has_ended.is_set():
            began_at = time.monotonic()
            try:
                decision = wire.choose(self._name).decision_id
            except grpc.RpcError as error:
                self.failures.append(str(error))
                continue
            self.slowest_choose = max(self.slowest_choose, time.monotonic() - began_at)
            with self._lock:
                self.sent.add(decision_of(decision))
            self._post(wire, decision)
            if n_done % 10 == 0:
                self._post(self._wires[(number + 1) % len(self._wires)], decision)
            n_done += 1

    def _post(self, wire: Wire, decision: str) -> None:
        is_retry = False
        while True:
            try:
                results = wire.reward(decision, {"click": 1.0})
            except grpc.RpcError as error:
                with self._lock:
                    self.refusals[error.code()] += 1
                is_retry = True
                time.sleep(0.05)
                continue
            with self._lock:
                self.n_doubtful += is_retry and results["click"] == bandit_pb2.OUTCOME_RESULT_DUPLICATE
                self.acked.add(decision_of(decision))
            return


@contextmanager
def shut_down(postgresql: PostgresqlProcess) -> Iterator[None]:
    """An immediate shutdown: every backend is cut off, and the next start recovers from the log."""
    postgresql.stop(signal.SIGQUIT)
    yield
    postgresql.start()


@contextmanager
def killed(postgresql: PostgresqlProcess) -> Iterator[None]:
    """The death of the whole server, without a word to anybody."""
    postgresql.kill()
    yield
    postgresql.start()


def frozen(postgresql: PostgresqlProcess) -> AbstractContextManager[None]:
    """A server that answers nothing and closes nothing."""
    return postgresql.frozen()


def test_no_fault_of_the_database_loses_or_doubles_a_reward(
    own_postgresql: PostgresqlProcess, tmp_path: Path
) -> None:
    """Two replicas under load survive an immediate shutdown, a kill and a freeze of their database.

    No call of Choose fails; Reward says UNAVAILABLE and nothing else; everything resumes by itself; every
    acknowledged reward is in the log, every logged one was sent, and the facts are the fold of the log.
    """
    url = own_postgresql.create_database()
    with running_replicas(url, tmp_path, "--lag-seconds", "2") as start:
        wires = [Wire(server.address) for server in start(2)]
        name = wires[0].running()
        load = Load(wires, name)
        with load.running():
            for fault in (shut_down, killed, frozen):
                eventually(lambda: len(load.acked) > 20)
                n_refusals = load.refusals.total()
                with fault(own_postgresql):  # for as long as it takes to be noticed
                    eventually(lambda n_refusals=n_refusals: load.refusals.total() > n_refusals)  # type: ignore[misc]
                n_acked = len(load.acked)
                began_at = time.monotonic()
                eventually(lambda n_acked=n_acked: len(load.acked) > n_acked + 50)  # type: ignore[misc]
                assert time.monotonic() - began_at < RECOVERY_SECONDS
        for wire in wires:
            wire.close()
    assert load.failures == []
    assert set(load.refusals) == {grpc.StatusCode.UNAVAILABLE}
    check_ledger(url, load)


def check_ledger(url: str, load: Load) -> None:
    """Acknowledged is within logged is within sent, and the facts are the fold of the log."""
    logged = {bytes(decision) for (decision,) in query(url, "SELECT decision FROM rewards")}
    assert load.acked <= logged <= load.sent
    report = maintenance.verify(Settings(database=url), lambda _done, _total: None)
    assert report.is_clean, report.differences
    assert report.n_outcomes == len(logged) > 100
