"""Connections without end: from one address few are let in, from many no more than there is room for."""

import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import islice
from typing import Final

import pytest

from benchmarks.flood.attacker import flood
from tests.faults.fast_lane.attackers import CHOOSE, addresses, call, connected, greeted
from tests.faults.fast_lane.conftest import Site, StartSite
from tests.rpc.raw_http2 import PREFACE, SETTINGS, frame_bytes
from tests.support.process import eventually

N_CONNECTIONS: Final = 5_000
N_BY_ADDRESS: Final = 40
MOST_CONNECTIONS: Final = 4_096
MOST_BY_ADDRESS: Final = 100
MOST_NEW: Final = 50
KIB_A_CONNECTION: Final = 16
"""What a connection may take that does nothing."""

GREETING: Final = PREFACE + frame_bytes(SETTINGS, 0, 0, b"")
MIB: Final = 1024
CHURN_SECONDS: Final = 3.0
NO_LIMITS: Final = ("--fast-connections-by-address", "0", "--fast-new-connections", "0")


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Allow this process as many open files as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * N_CONNECTIONS:
        pytest.skip(f"this process may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * N_CONNECTIONS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
def test_connections_from_everywhere_are_bounded(site: Site) -> None:
    """Of 5,000 connections from 125 addresses 4,096 are served, with 16 KiB each; all others are closed."""
    refused_before = n_refused(site)
    with ExitStack() as stack, site.good_caller() as good:
        for source in islice(addresses(), N_CONNECTIONS // N_BY_ADDRESS):
            for _ in range(N_BY_ADDRESS):
                with suppress(ConnectionError):
                    stack.enter_context(closing(connected(site.port, source))).sendall(GREETING)
        refused = eventually(
            lambda: n_refused(site) - refused_before,
            until=lambda n_more: n_more > N_CONNECTIONS - MOST_CONNECTIONS,
        )
        assert refused == N_CONNECTIONS - MOST_CONNECTIONS + 1
        assert site.mib() < MOST_CONNECTIONS * KIB_A_CONNECTION / MIB
    assert good.is_answered
    site.calm_down()


@pytest.mark.usefixtures("descriptors")
def test_silent_connections_do_not_keep_others_out(site: Site) -> None:
    """When thousands have taken every place, and say nothing, newcomers are let in a few seconds later."""
    with ExitStack() as stack, site.good_caller() as good:
        for source in islice(addresses(), N_CONNECTIONS // N_BY_ADDRESS):
            for _ in range(N_BY_ADDRESS):
                stack.enter_context(closing(connected(site.port, source)))
        eventually(lambda: is_welcome(site.port, "127.0.0.3"))
    assert good.is_answered
    site.calm_down()


def test_connections_that_come_and_go_are_let_in_at_a_rate(site: Site) -> None:
    """One address that connects, asks and leaves as fast as it can is let in fifty times a second."""
    n_served = 0
    with site.good_caller() as good:
        began_at = time.monotonic()
        while time.monotonic() < began_at + CHURN_SECONDS:
            n_served += is_welcome(site.port, "127.0.0.2")
        seconds = time.monotonic() - began_at
    assert MOST_NEW <= n_served <= MOST_NEW * (seconds + 1)
    assert good.is_answered
    site.calm_down()


def test_connections_of_an_address_are_bounded(site: Site) -> None:
    """Beyond a hundred that are open, more of the address are closed, however slowly they come."""
    with ExitStack() as stack, site.good_caller() as good:
        n_open = 0
        while n_open < MOST_BY_ADDRESS:
            with suppress(ConnectionError, StopIteration):
                stack.enter_context(closing(greeted(site.port, "127.0.0.2")))
                n_open += 1
        eventually(
            lambda: (
                is_welcome(site.port, "127.0.0.2")
                or site.server.sample("bandit_fast_lane_connections_refused_total", reason="address")
            )
        )
        assert not is_welcome(site.port, "127.0.0.2")
        assert is_welcome(site.port, "127.0.0.3")
    assert good.is_answered


def test_behind_a_proxy_all_connections_may_have_one_address(start_site: StartSite) -> None:
    """Without limits by address three hundred connections are opened at once, and each of them is served."""
    site = start_site(*NO_LIMITS)
    with ExitStack() as stack, site.good_caller() as good:
        connections = [stack.enter_context(closing(greeted(site.port, "127.0.0.1"))) for _ in range(300)]
        for connection in connections:
            connection.socket.sendall(call(0, CHOOSE, b""))
        assert all(b"grpc-status" in connection.answer(1) for connection in connections)
    assert good.is_answered
    assert site.server.sample("bandit_fast_lane_connections_refused_total", reason="address") == 0
    assert site.server.sample("bandit_fast_lane_connections_refused_total", reason="rate") == 0
    site.calm_down()


def test_behind_a_proxy_an_attacker_harms_itself_only(start_site: StartSite) -> None:
    """The limits on each connection hold: the attacker's are closed, and others of the address are let in."""
    site = start_site(*NO_LIMITS)
    with site.good_caller() as good:
        totals = asyncio.run(flood(site.port, CHOOSE, CHURN_SECONDS))
        assert is_welcome(site.port, "127.0.0.1")
    assert totals.n_made == totals.n_tried
    assert good.is_answered
    eventually(lambda: site.server.sample("bandit_fast_lane_connections"), until=lambda n_open: n_open == 1)
    site.calm_down()


def n_refused(site: Site) -> float:
    """Return how many connections were refused because too many were open, by all tests of the module."""
    return site.server.sample("bandit_fast_lane_connections_refused_total", reason="connections")


def is_welcome(port: int, source: str) -> bool:
    """True if a connection is let in, and a call on it is answered."""
    with suppress(ConnectionError, StopIteration), closing(greeted(port, source)) as connection:
        connection.socket.sendall(call(0, CHOOSE, b""))
        return b"grpc-status" in connection.answer(1)
    return False
