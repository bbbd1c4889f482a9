"""Fixtures: one server for all foreign clients, and each client, built where its language is installed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.foreign import toolchains
from tests.foreign.site import CALLERS, Site
from tests.security.conftest import TokensFile
from tests.support.process import serving

CLIENTS: Final[dict[str, Callable[[Path], toolchains.Client]]] = {
    "go": toolchains.go_client,
    "java": toolchains.java_client,
    "node": toolchains.node_client,
    "grpcio": toolchains.grpcio_client,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of calls, which the README raises to a million."""
    parser.addoption("--calls", type=int, default=10_000, help="Choose calls of each client to each listener")


@pytest.fixture(scope="session")
def n_calls(request: pytest.FixtureRequest) -> int:
    """Return how often each client calls Choose at each listener."""
    return int(request.config.getoption("--calls"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start the server; its log must show no failure."""
    folder = tmp_path_factory.mktemp("foreign")
    tokens = TokensFile.create(folder / "tokens.toml", CALLERS)
    # No epoch begins while the answers of two listeners are compared.
    still = ("--epoch-interval-seconds", "3600")
    # h2spec opens a connection for each of its cases.
    fast = ("--fast-listen", "127.0.0.1:0", "--fast-new-connections", "0")
    flags = (*still, *fast, "--tokens", str(tokens.path))
    with serving(folder / "bandit.db", *flags) as server:
        yield Site.prepare(server, tokens)
    assert [event for event in server.events() if event["level"] in {"error", "critical"}] == []


@pytest.fixture(scope="session", params=CLIENTS)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[toolchains.Client]:
    """Build a client; where its language is not installed, its tests are skipped with that reason."""
    built = CLIENTS[request.param](tmp_path_factory.mktemp(request.param))
    yield built
    built.close()
