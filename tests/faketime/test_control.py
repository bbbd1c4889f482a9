"""The control: what real processes see of a faked clock, so that the other tests here try what they say."""

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
"""Seconds that a busy machine may take."""


def test_libfaketime_is_installed() -> None:
    """Without it nothing here would be tried, so this fails and does not skip."""
    assert find_library() is not None, INSTALLATION


@pytest.mark.parametrize("site", ["PostgreSQL: the database"], indirect=True)
@pytest.mark.parametrize("off", OFF, ids=["ahead", "behind"])
def test_postgresql_sees_the_wrong_time_and_measures_durations_truly(site: Site, off: timedelta) -> None:
    """Its clock is off by what was set, and a statement's timeout takes as long as it says."""
    site.set_off(off)
    ((now,),) = site.query("SELECT extract(epoch FROM clock_timestamp())")
    assert float(now) - time.time() == pytest.approx(off.total_seconds(), abs=SLACK)
    began_at = time.monotonic()
    site.query("SELECT pg_sleep(0.2)")
    assert 0.2 <= time.monotonic() - began_at < 0.2 + SLACK


@pytest.mark.parametrize("site", ["SQLite: the server"], indirect=True)
@pytest.mark.parametrize("off", OFF, ids=["ahead", "behind"])
def test_a_server_measures_deadlines_truly(site: Site, off: timedelta, tmp_path: Path) -> None:
    """A call that can't be answered ends at its deadline, neither at once nor never."""
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
    """The process has the wrong time from its first line on, which is what the other tests rest on."""
    site.set_off(timedelta(days=90))
    site.start()
    first = site.servers[0].events()[0]
    logged_at = datetime.fromisoformat(first["timestamp"])
    assert logged_at.timestamp() - time.time() == pytest.approx(timedelta(days=90).total_seconds(), abs=60)
