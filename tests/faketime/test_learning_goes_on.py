"""A clock that is wrong for seconds delays learning by about the metric's window, and not by its error."""

import time
from datetime import timedelta
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import bandit_pb2
from tests.faketime.site import EVERYWHERE, Site, lasting, wrong_by
from tests.support.process import eventually
from tests.support.wire import Wire, metric

WINDOW: Final = Duration(seconds=2)
BOUND: Final = 12.0
"""Seconds: a window of 2, an epoch of at most half of that, a lag of 0.5, and delays of a busy machine."""

N_DECISIONS: Final = 40
YEAR: Final = timedelta(days=365)

wrong_times = wrong_by(ahead=YEAR, little_ahead=timedelta(hours=2), behind=timedelta(days=-30))


def declare(wire: Wire) -> str:
    """Start an experiment whose clicks have a window, and return its name."""
    return wire.running(metrics=[metric("click", window=WINDOW, default_value=0.0)])


def work(wire: Wire, name: str) -> None:
    """Make decisions, and post a click for each that goes to arm b; the others get no outcome."""
    requests = [bandit_pb2.ChooseRequest(experiment=name)] * N_DECISIONS
    choices = [result.choice for result in wire.batch_choose(*requests)]
    clicks = [c.decision_id for c in choices if c.arm == "b"]
    wire.batch_reward(*(bandit_pb2.RewardRequest(decision_id=id_, outcomes={"click": 1}) for id_ in clicks))


def counted(wire: Wire, name: str) -> float:
    """Return the number of decisions whose window has closed, so that they are evidence."""
    return sum(arm.metrics[0].observations for arm in wire.report(name).arms)


def require_learning(wire: Wire, name: str) -> None:
    """Check that decisions made from now on soon become evidence, and steer, so that a new epoch begins."""
    began_at = time.monotonic()
    n_before = wire.n_decisions(name)["policy"]  # decisions made in doubt are unconfirmed, and never evidence
    epoch = wire.choose(name).epoch

    def look() -> tuple[float, int]:
        work(wire, name)
        return counted(wire, name), wire.choose(name).epoch

    eventually(look, until=lambda seen: seen[0] > n_before and seen[1] > epoch, seconds=BOUND)
    assert time.monotonic() - began_at < BOUND


def work_for(wire: Wire, name: str, seconds: float) -> None:
    """Make traffic for a while."""
    over_at = time.monotonic() + seconds
    while time.monotonic() < over_at:
        work(wire, name)


@wrong_times
def test_after_a_jump_of_a_running_server_and_after_its_restart(site: Site, off: timedelta) -> None:
    """Learning resumes after a clock was wrong for three seconds under traffic, and after a restart."""
    with site.serving() as wire:
        name = declare(wire)
        work_for(wire, name, 1)
        site.set_off(off)
        work_for(wire, name, 3)
        site.set_right()
        require_learning(wire, name)
    with site.serving() as wire:
        require_learning(wire, name)


@wrong_times
def test_after_a_start_under_a_wrong_clock(site: Site, off: timedelta) -> None:
    """Learning resumes after a start and three seconds of traffic under a wrong clock."""
    with site.serving() as wire:
        name = declare(wire)
        work_for(wire, name, 1)
    site.set_off(off)
    with site.serving() as wire:
        work_for(wire, name, 3)
    site.set_right()
    with site.serving() as wire:
        require_learning(wire, name)


@pytest.mark.parametrize("site", EVERYWHERE[1:], indirect=True)
def test_with_one_wrong_server_of_two(site: Site) -> None:
    """Learning resumes after one of two servers had a wrong clock, with traffic on both."""
    wires = [site.start(is_right=True), site.start()]
    name = declare(wires[0])
    site.set_off(YEAR)
    for _ in range(3):
        for wire in wires:
            work_for(wire, name, 0.5)
    site.set_right()
    for wire in wires:
        require_learning(wire, name)
    site.stop()


@pytest.mark.parametrize("site", ["SQLite: the server"], indirect=True)
def test_an_experiment_that_is_declared_and_paused_under_a_wrong_clock(site: Site) -> None:
    """An experiment that began a year ahead need not wait that long: it learns, pauses and starts."""
    with site.serving() as wire:
        lasting(0.5)
        site.set_off(YEAR)
        name = declare(wire)
        work_for(wire, name, 1)
        wire.pause(name)
        site.set_right()
        wire.start(name)
        require_learning(wire, name)
