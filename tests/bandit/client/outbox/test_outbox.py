"""The reward outbox: what it keeps, what it sends, and what it sets apart."""

import logging
import threading
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.client import (
    AsyncBanditClient,
    BanditClient,
    Choice,
    Fallback,
    InvalidArgumentError,
    OutboxClosedError,
    OutboxFullError,
    Reason,
    RewardOutbox,
)
from bandit.client.outbox.age import Moment
from bandit.v1 import bandit_pb2
from tests.bandit.client.outbox.outboxes import NOBODY, OpenOutbox, judge, keep, posted
from tests.bandit.client.peer import Peer, Script, fail
from tests.support.process import eventually


def test_what_was_kept_is_sent_once_the_service_is_there(
    open_outbox: OpenOutbox, peer: Peer, script: Script
) -> None:
    """A reward is kept without the service, in the order of the calls, and sent when it comes."""
    script.on("BatchReward", judge(lambda _: None))
    peer.stop()
    outbox = open_outbox(peer.target)
    kept = [outbox.reward(f"d{number}", {"click": number}, revision=number) for number in range(3)]
    assert (kept, len(outbox), outbox.pending, bool(outbox)) == ([True] * 3, 3, 3, True)
    assert not outbox.flush(0.3)
    assert eventually(lambda: outbox.last_error)
    assert outbox.oldest_age > timedelta(0)
    peer.start()
    assert outbox.flush(30)
    assert (len(outbox), outbox.oldest_age, outbox.n_refused) == (0, timedelta(0), 0)
    assert outbox.last_error is None
    last = bandit_pb2.BatchRewardRequest.FromString(script.requests("BatchReward")[-1]).requests
    assert [(each.decision_id, dict(each.outcomes), each.revision) for each in last] == [
        ("d0", {"click": 0.0}, 0),
        ("d1", {"click": 1.0}, 1),
        ("d2", {"click": 2.0}, 2),
    ]


def test_the_next_outbox_sends_what_was_left(open_outbox: OpenOutbox, peer: Peer, script: Script) -> None:
    """What waits at the end of one outbox is sent by the next on its file, without another call."""
    script.on("BatchReward", judge(lambda _: None))
    first = open_outbox()
    first.reward("d1", {"click": 1.0})
    assert not first.close(0)
    assert first.close(0)
    with open_outbox(peer.target) as second:
        eventually(lambda: len(second) == 0)
    assert posted(script) == ["d1"]


def test_arguments_are_those_of_reward(open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """A fallback is kept nowhere, and wrong types and values raise what the client's own `reward` raises."""
    outbox = open_outbox()
    assert not outbox.reward(Choice(arm="v0", reason=Reason.FALLBACK), {"click": 1.0})
    assert not outbox.reward("", {"click": 1.0})
    for wrong in ({"click": "1"}, 7):
        with pytest.raises(TypeError):
            outbox.reward("d1", wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        outbox.reward("d1", {"click": 1.0}, revision=-1)
    assert outbox.reward(Choice(arm="v1", decision_id="d1"), {"click": 1})
    assert len(outbox) == 1
    with pytest.raises(
        TypeError,
        match=r"client must be a BanditClient, got .*\.AsyncBanditClient\)",
    ):
        RewardOutbox(tmp_path / "other.db", AsyncBanditClient(NOBODY))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_rewards must be at least 1, got 0"):
        RewardOutbox(tmp_path / "other.db", BanditClient(NOBODY), max_rewards=0)


def test_outbox_is_bounded(open_outbox: OpenOutbox) -> None:
    """At its bound it refuses further rewards, and keeps none of them."""
    outbox = open_outbox(max_rewards=2)
    outbox.reward("d1", {"click": 1.0})
    outbox.reward("d2", {"click": 1.0})
    with pytest.raises(OutboxFullError, match="2 rewards wait, and max_rewards is 2, so nothing was kept"):
        outbox.reward("d3", {"click": 1.0})
    assert len(outbox) == 2


def test_refused_rewards_are_set_apart(open_outbox: OpenOutbox, peer: Peer, script: Script) -> None:
    """What is refused for good is kept with its reason, and can be sent again or dropped."""
    expired = bandit_pb2.Status(code=9, reason="DECISION_EXPIRED", message="too old")
    script.on("BatchReward", judge(lambda each: expired if each.decision_id.startswith("old") else None))
    outbox = open_outbox(peer.target)
    for decision in ("old1", "d1", "old2", "old3"):
        outbox.reward(decision, {"click": 1.0})
    assert outbox.flush(30)
    assert outbox.n_refused == 3
    found = outbox.refused()
    assert [(each.reward.decision, each.status, each.reason, each.message) for each in found] == [
        (decision, "FAILED_PRECONDITION", "DECISION_EXPIRED", "too old")
        for decision in ("old1", "old2", "old3")
    ]
    assert outbox.refused(1) == found[:1]
    assert outbox.drop_refused([found[0].number]) == 1
    script.on("BatchReward", judge(lambda each: expired if each.decision_id == "old3" else None))
    assert outbox.retry_refused() == 2
    assert outbox.flush(30)
    assert [each.reward.decision for each in outbox.refused()] == ["old3"]
    assert outbox.drop_refused() == 1
    assert (outbox.n_refused, len(outbox)) == (0, 0)


def test_refused_rewards_are_bounded(
    open_outbox: OpenOutbox, peer: Peer, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the bound the first are forgotten, and the log says how many."""
    script.on("BatchReward", judge(lambda _: bandit_pb2.Status(code=5, reason="EXPERIMENT_NOT_FOUND")))
    outbox = open_outbox(peer.target, max_refused=2)
    for number in range(5):
        outbox.reward(f"d{number}", {"click": 1.0})
    assert outbox.flush(30)
    assert [each.reward.decision for each in outbox.refused()] == ["d3", "d4"]
    forgotten = [int(record.args[1]) for record in caplog.records if "forgotten" in record.msg]  # type: ignore[index, arg-type]
    assert sum(forgotten) == 3


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNAVAILABLE,
    ],
)
def test_what_is_no_fault_of_the_reward_keeps_it(
    code: grpc.StatusCode, open_outbox: OpenOutbox, peer: Peer, script: Script
) -> None:
    """Refused credentials, another service at the address and defects keep the reward, and are named."""
    script.on("BatchReward", fail(code, "no"))
    outbox = open_outbox(peer.target)
    outbox.reward("d1", {"click": 1.0})
    eventually(lambda: getattr(outbox.last_error, "code", None) is code)
    assert (len(outbox), outbox.n_refused) == (1, 0)
    script.on("BatchReward", judge(lambda _: None))
    assert outbox.flush(30)


def test_what_waits_keeps_nothing_else_waiting(open_outbox: OpenOutbox, peer: Peer, script: Script) -> None:
    """A thousand rewards of a namespace that the token lost do not keep the others from being sent."""
    denied = bandit_pb2.Status(code=7, reason="PERMISSION_DENIED")
    script.on("BatchReward", judge(lambda each: denied if each.decision_id.startswith("lost") else None))
    before = open_outbox()
    threads = [threading.Thread(target=keep, args=(before, f"lost{number}-", 126)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before.close(0)
    outbox = open_outbox(peer.target)
    outbox.reward("d1", {"click": 1.0})
    eventually(lambda: len(outbox) == 8 * 126)
    assert outbox.n_refused == 0
    script.on("BatchReward", judge(lambda _: None))
    assert outbox.flush(30)


def test_one_reward_takes_no_others_with_it(open_outbox: OpenOutbox, peer: Peer, script: Script) -> None:
    """Where a call is refused as a whole for one reward, only that one is set apart."""
    good = judge(lambda _: None)

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        if b"poison" in request:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "poisoned")
        return good(request, context)

    script.on("BatchReward", behave)
    peer.stop()
    outbox = open_outbox(peer.target)
    for decision in ("d1", "d2", "poison", "d3", "d4"):
        outbox.reward(decision, {"click": 1.0})
    peer.start()
    assert outbox.flush(30)
    assert [each.reward.decision for each in outbox.refused()] == ["poison"]


def test_threads_share_an_outbox(open_outbox: OpenOutbox) -> None:
    """Rewards that threads keep at once are all kept."""
    outbox = open_outbox()
    threads = [threading.Thread(target=keep, args=(outbox, f"d{number}-", 25)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outbox) == 200


def test_closed_outbox_says_so(open_outbox: OpenOutbox) -> None:
    """After `close`, every use raises an error that says it."""
    outbox = open_outbox()
    outbox.close(0)
    with pytest.raises(OutboxClosedError, match=r"rewards\.db: the outbox is closed"):
        outbox.reward("d1", {"click": 1.0})
    with pytest.raises(OutboxClosedError):
        len(outbox)


@given(
    uptimes=st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)),
    walls=st.tuples(st.floats(-1e9, 1e10), st.floats(-1e9, 1e10)),
    boots=st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"])),
)
def test_ages_survive_a_clock_that_is_set(
    uptimes: tuple[float, float], walls: tuple[float, float], boots: tuple[str, str]
) -> None:
    """An age is never negative, and within one boot it does not depend on the wall clock at all."""
    earlier, later = (Moment(*facts) for facts in zip(walls, boots, uptimes, strict=True))
    age = earlier.until(later)
    assert age >= timedelta(0)
    if boots == ("a", "a"):
        assert age == timedelta(seconds=max(uptimes[1] - uptimes[0], 0.0))


async def test_fallback_costs_no_call(open_outbox: OpenOutbox, fallback: Fallback) -> None:
    """The choice that a client without its service returns is rewarded into nothing."""
    with BanditClient(NOBODY) as client:
        choice = client.choose("ranker", fallback=fallback)
    assert not open_outbox().reward(choice, {"click": 1.0})


def test_a_filter_that_raises_stops_no_sending(
    open_outbox: OpenOutbox, peer: Peer, script: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller's logging may fail in the thread that sends; what waits is sent all the same."""

    def refuse(_record: logging.LogRecord) -> bool:
        raise LookupError("no request")

    refused = bandit_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="refused")
    script.on("BatchReward", judge(lambda _: refused), judge(lambda _: None))
    log = logging.getLogger("bandit.client")
    log.addFilter(refuse)
    try:
        outbox = open_outbox(peer.target)
        for name in ("first", "second"):
            outbox.reward(name, {"click": 1.0})
            assert outbox.flush(30.0)
    finally:
        log.removeFilter(refuse)
    assert (len(outbox), outbox.n_refused) == (0, 1)
    assert "LookupError: no request" in capfd.readouterr().err
