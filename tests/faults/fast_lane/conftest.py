"""Servers with a fast lane, and a good caller beside those who attack it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
import pytest

from benchmarks.harness.processes import resident_mib
from tests.conftest import StartServer
from tests.support.good_caller import GoodCaller
from tests.support.process import ServerProcess, eventually, serving
from tests.support.wire import Wire

FLAGS: Final = ("--fast-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
MOST_KEPT_MIB: Final = 48.0
"""How much more memory a server may take a while after an attack than before it: freed, and not returned."""

_WARM_UP: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server with a fast lane.

    Attributes:
        server: Its process.
        wire: A good caller's channel to the fast lane, which is open and has been used.
        name: A running experiment.
        mib_before: Resident memory before anything bad happens.
    """

    server: ServerProcess
    wire: Wire
    name: str
    mib_before: float

    @property
    def port(self) -> int:
        """The port of the fast lane."""
        assert self.server.fast_address is not None
        return int(self.server.fast_address.rpartition(":")[2])

    def good_caller(self) -> GoodCaller:
        """Return a caller whose calls are all to be answered while its block runs."""
        return GoodCaller(self.wire, self.name)

    def mib(self) -> float:
        """Return how much resident memory has grown, in MiB."""
        return resident_mib(self.server.process.pid) - self.mib_before

    def peak_mib(self) -> float:
        """Return how much its peak lies above the memory before, in MiB."""
        return resident_mib(self.server.process.pid, "VmHWM") - self.mib_before

    def calm_down(self) -> None:
        """Wait until memory is back, and look for failures of the server: there must be none."""
        eventually(self.mib, until=lambda mib: mib <= MOST_KEPT_MIB)
        failures = [event for event in self.server.events() if event["level"] in {"error", "critical"}]
        assert failures == []


StartSite = Callable[..., Site]


@pytest.fixture
def start_site(start_server: StartServer) -> Iterator[StartSite]:
    """Start servers whose fast lane has a good caller; they must stop with 0."""
    with ExitStack() as stack:

        def start(*flags: str, credentials: grpc.ChannelCredentials | None = None) -> Site:
            return stack.enter_context(_site(start_server(*FLAGS, *flags), credentials))

        yield start


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server as it is by default, for all tests of a module; its facts must be its ledger's fold."""
    file = tmp_path_factory.mktemp("fast_lane") / "bandit.db"
    with serving(file, *FLAGS) as server, _site(server, None) as found:
        yield found


@contextmanager
def _site(server: ServerProcess, credentials: grpc.ChannelCredentials | None) -> Iterator[Site]:
    assert server.fast_address is not None
    control = Wire(server.address, credentials=credentials)
    wire = Wire(server.fast_address, credentials=credentials)
    with closing(control), closing(wire):
        name = control.running()
        for _ in range(_WARM_UP):
            wire.choose(name)
        yield Site(server=server, wire=wire, name=name, mib_before=resident_mib(server.process.pid))
