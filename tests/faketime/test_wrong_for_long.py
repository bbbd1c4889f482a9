"""Months of downtime need no operator; a clock that was wrong for long needs one."""

import time
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from bandit.v1 import admin_pb2, experiment_pb2
from tests.faketime.site import Site, lasting
from tests.faketime.traffic import (
    CLICK,
    DUPLICATE,
    RECORDED,
    declare,
    is_final,
    posted,
    require_unharmed,
    settled,
)
from tests.support.ledger import decision_of
from tests.support.process import eventually, run_command
from tests.support.refusals import Refusal
from tests.support.wire import CALL_SECONDS, Wire

MONTHS = timedelta(days=90)
SETTLED_SOON = ("--clock-settle-seconds", "1")
TRUSTED_SOON = (*SETTLED_SOON, "--trust-clock-after-seconds", "1")
FOLLOWING = ["SQLite: the server", "PostgreSQL: the database"]
"""Sites with one wrong clock, which servers follow."""

by_the_clock = pytest.mark.parametrize("site", FOLLOWING, indirect=True)
all_at_once = pytest.mark.parametrize("site", ["SQLite: the server", "PostgreSQL: all"], indirect=True)


def ahead(wire: Wire, name: str) -> timedelta:
    """Return how far ahead of the true time a decision is dated."""
    decided_ms = int.from_bytes(decision_of(wire.choose(name).decision_id)[:6])
    return timedelta(milliseconds=decided_ms - time.time_ns() // 1_000_000)


def marked_ahead(site: Site) -> timedelta:
    """Return how far ahead of the true time the mark in the database is."""
    ((mark,),) = site.query("SELECT mark FROM clock")
    return timedelta(microseconds=(mark or 0) - time.time_ns() // 1_000)


def running_free_of_doubt(site: Site) -> int:
    """Return the time free of doubt that the database has added up, in milliseconds."""
    return int(site.query("SELECT running FROM clock")[0][0])


def clock_command(site: Site, *arguments: str) -> str:
    """Run `bandit-server clock`, which must succeed, and return its output."""
    done = run_command("clock", *arguments, "--database", site.url, folder=site.folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def n_logged(site: Site) -> int:
    """Return the number of rows in the log."""
    return int(site.query("SELECT count(*) FROM rewards")[0][0])


@all_at_once
def test_months_of_downtime_need_no_operator(site: Site) -> None:
    """It serves and learns at once, gives no final refusals until it is sure of the time, and then purges."""
    site.set_off(-MONTHS)
    with site.serving() as wire:
        traffic = declare(wire)
    site.set_right()
    n_old = n_logged(site)
    with site.serving() as wire:
        old = traffic.open["running"][-1]
        answer = posted(wire, old)
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "CLOCK_IN_DOUBT")
        assert answer.retry_seconds
        for state, name in traffic.names.items():
            assert posted(wire, wire.choose(name).decision_id) == RECORDED
            assert posted(wire, traffic.rewarded[state]) == DUPLICATE
        lasting(1)
        assert n_logged(site) == n_old + len(traffic.names)
    with site.serving(*TRUSTED_SOON) as wire:
        eventually(lambda: n_logged(site) == len(traffic.names), seconds=30)
        answer = settled(wire, old)
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
        assert settled(wire, wire.choose(traffic.names["running"]).decision_id) == RECORDED


@by_the_clock
def test_a_followed_wrong_clock_is_corrected_by_the_operator(site: Site) -> None:
    """A clock that is wrong until it is marked is followed; `clock accept` ends that, and nothing is lost."""
    with site.serving(*SETTLED_SOON) as wire:
        traffic = declare(wire)
        running = traffic.names["running"]
        site.set_off(MONTHS)
        eventually(lambda: ahead(wire, running) > MONTHS / 2, seconds=20)
        of_the_future = wire.choose(running).decision_id
        eventually(lambda: marked_ahead(site) > MONTHS / 2, seconds=20)
        site.set_right()
        lasting(2)
        assert ahead(wire, running) > MONTHS / 2, "time must not go back behind the mark by itself"
        assert "clock accept" in clock_command(site, "show")
        clock_command(site, "accept", "--reason", "a new battery")
        eventually(lambda: abs(ahead(wire, running)) < timedelta(seconds=10), seconds=20)
        assert settled(wire, of_the_future) == RECORDED
        require_unharmed(wire, traffic)
    assert any("a new battery" in str(row) for row in site.query("SELECT * FROM audit"))


@by_the_clock
def test_a_clock_put_right_before_its_error_was_marked_needs_no_operator(site: Site) -> None:
    """If followed but not yet marked, time goes back by itself, and running free of doubt adds up again."""
    with site.serving("--clock-settle-seconds", "4") as wire:
        traffic = declare(wire)
        running = traffic.names["running"]
        site.set_off(MONTHS)
        eventually(lambda: ahead(wire, running) > MONTHS / 2, seconds=20)
        assert marked_ahead(site) < timedelta(minutes=1)
        of_the_future = wire.choose(running).decision_id
        site.set_right()
        eventually(lambda: abs(ahead(wire, running)) < timedelta(seconds=10), seconds=20)
        assert settled(wire, of_the_future) == RECORDED
        require_unharmed(wire, traffic)
        before = running_free_of_doubt(site)
        eventually(lambda: running_free_of_doubt(site) > before, seconds=20)


@by_the_clock
def test_the_same_wrong_time_twice_is_not_believed_sooner(site: Site) -> None:
    """A start under a wrong clock leaves nothing in the database that would confirm it."""
    with site.serving() as wire:
        name = wire.running()
    site.set_off(MONTHS)
    with site.serving() as wire:
        wire.choose(name)
    site.set_right()
    with site.serving("--clock-settle-seconds", "20") as wire:
        site.set_off(MONTHS)
        lasting(4)
        assert abs(ahead(wire, name)) < timedelta(minutes=1)
        site.set_right()


@by_the_clock
def test_seals_of_a_trusted_wrong_clock_are_repaired(site: Site) -> None:
    """A clock that is wrong until it is trusted seals and purges; after `clock repair` rewards work again."""
    with site.serving(*TRUSTED_SOON) as wire:
        traffic = declare(wire)
        site.set_off(MONTHS)
        eventually(lambda: n_logged(site) == 0, seconds=30)
        site.set_right()
        clock_command(site, "accept", "--reason", "a new battery")
        eventually(lambda: abs(ahead(wire, traffic.names["running"])) < timedelta(seconds=10), seconds=20)
        clock_command(site, "repair", "--reason", "seals of the future")
        for name in traffic.names.values():
            eventually(lambda name=name: is_rewardable(wire, name), seconds=20)  # type: ignore[misc]


@by_the_clock
def test_decisions_expire_only_free_of_doubt(site: Site) -> None:
    """An expired decision is refused temporarily under a wrong clock, and permanently afterwards."""
    with site.serving() as wire:
        name = wire.running(max_decision_age=Duration(seconds=1))
        decision = wire.choose(name).decision_id
        lasting(1.2)
        site.set_off(MONTHS)
        answer = eventually(lambda: posted(wire, decision), until=lambda each: not is_final(each))
        assert isinstance(answer, Refusal)
        assert answer.reason == "CLOCK_IN_DOUBT"
        site.set_right()
        answer = settled(wire, decision)
        assert isinstance(answer, Refusal)
        assert answer.code is grpc.StatusCode.FAILED_PRECONDITION


@all_at_once
def test_keys_are_rotated_under_a_wrong_clock(site: Site) -> None:
    """Rotation may be refused under a wrong clock; afterwards it works, and all decisions are rewardable."""
    with site.serving() as wire:
        name = wire.running()
        decisions = [wire.choose(name).decision_id]
        site.set_off(MONTHS)
        for _ in range(2):
            rotate(wire)
            decisions.append(wire.choose(name).decision_id)
        site.set_right()
        eventually(lambda: rotate(wire), seconds=20)
        decisions.append(wire.choose(name).decision_id)
        lasting(1)
        decisions.append(wire.choose(name).decision_id)
    site.set_off(MONTHS)
    with site.serving() as wire:
        rotate(wire)
        of_the_future = wire.choose(name).decision_id
    site.set_right()
    with site.serving(*SETTLED_SOON) as wire:
        # Later it would be refused: it is dated after its key was replaced, like a forgery with a leaked key.
        assert settled(wire, of_the_future) == RECORDED
        eventually(lambda: rotate(wire), seconds=20)
        decisions.append(wire.choose(name).decision_id)
        for decision in decisions:
            assert settled(wire, decision) == RECORDED
            assert settled(wire, decision) == DUPLICATE


@all_at_once
def test_no_unit_was_first_seen_in_the_future(site: Site) -> None:
    """A unit that came under a wrong clock and returns has a correct first time."""
    with site.serving() as wire:
        name = wire.running(analysis_unit=experiment_pb2.ANALYSIS_UNIT_UNIT)
        site.set_off(MONTHS)
        lasting(0.5)
        wire.reward(wire.choose(name, unit="running").decision_id, CLICK)
    with site.serving() as wire:
        wire.choose(name, unit="started")
    site.set_right()
    with site.serving() as wire:
        for unit in ("running", "started"):
            wire.choose(name, unit=unit)
    for (first_ms,) in site.query("SELECT first_ms FROM units"):
        assert first_ms / 1000 < time.time() + 60


def is_rewardable(wire: Wire, name: str) -> bool:
    """True if a decision made now can be rewarded now."""
    return posted(wire, wire.choose(name).decision_id) == RECORDED


def rotate(wire: Wire) -> bool:
    """Request a key rotation; True if it succeeded."""
    try:
        wire.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=CALL_SECONDS)
    except grpc.RpcError:
        return False
    return True
