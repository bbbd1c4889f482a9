"""Controls: real processes see the fake clock, so that the other tests here test what they claim."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from bandit.v1 import bandit_pb2
from benchmarks.harness.faked_clock import INSTALLATION, find_library
from tests.faketime.site import Site
from tests.support.ledger import commits_held_up

OFF = [timedelta(days=90), timedelta(days=-30)]
SLACK = 2.0
"""Seconds of delay that a busy machine may add."""


def test_libfaketime_is_installed() -> None:
    """Without libfaketime the tests here would test nothing, so this fails instead of skipping."""
    assert find_library() is not None, INSTALLATION


@pytest.mark.parametrize("site", ["PostgreSQL: the database"], indirect=True)
@pytest.mark.parametrize("off", OFF, ids=["ahead", "behind"])
def test_postgresql_sees_the_wrong_time_and_measures_durations_truly(site: Site, off: timedelta) -> None:
    """Its clock is off by the set time, and a sleep takes its true duration."""
    site.set_off(off)
    ((now,),) = site.query("SELECT extract(epoch FROM clock_timestamp())")
    assert float(now) - time.time() == pytest.approx(off.total_seconds(), abs=SLACK)
    began_at = time.monotonic()
    site.query("SELECT pg_sleep(0.2)")
    assert 0.2 <= time.monotonic() - began_at < 0.2 + SLACK


@pytest.mark.parametrize("site", ["SQLite: the server"], indirect=True)
@pytest.mark.parametrize("off", OFF, ids=["ahead", "behind"])
def test_a_server_measures_deadlines_truly(site: Site, off: timedelta, tmp_path: Path) -> None:
    """A call that can't be answered ends at its deadline, and not at once or never."""
    wire = site.start()
    name = wire.running()
    decision = wire.choose(name).decision_id
    site.set_off(off)
    with commits_held_up(tmp_path / "bandit.db"):
        request = bandit_pb2.RewardRequest(decision_id=decision, outcomes={"click": 1.0})
        began_at = time.monotonic()
        with pytest.raises(grpc.RpcError):
            wire.bandit.Reward(request, timeout=1.0)
        assert 0.9 < time.monotonic() - began_at < 1.0 + SLACK


@pytest.mark.parametrize("site", ["SQLite: the server"], indirect=True)
def test_a_server_that_starts_under_a_wrong_clock_dates_its_log_by_it(site: Site) -> None:
    """The process has the wrong time from its first log line on, which the other tests assume."""
    site.set_off(timedelta(days=90))
    site.start()
    first = site.servers[0].events()[0]
    logged_at = datetime.fromisoformat(first["timestamp"])
    assert logged_at.timestamp() - time.time() == pytest.approx(timedelta(days=90).total_seconds(), abs=60)
