"""A client counts fallbacks by cause, late outcomes and the fate of its posts, and a hook hears of each."""

import copy
import dataclasses
import logging
import os
import threading

import grpc
import pytest

from bandit.client import (
    AsyncBanditClient,
    BanditClient,
    ClientEvent,
    Counts,
    EventKind,
    Fallback,
    Question,
    Reward,
)
from bandit.client.counts import MAX_CAUSES, OTHER_CAUSES, Counters
from bandit.client.errors import call_error
from bandit.client.logs import Throttle
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import AnyClient, Peer, Script, answer, fail, settle

V0 = Fallback("v0")
LATE = bandit_pb2.RewardResponse(
    results={
        "click": bandit_pb2.OUTCOME_RESULT_LATE,
        "view": bandit_pb2.OUTCOME_RESULT_LATE,
        "buy": bandit_pb2.OUTCOME_RESULT_RECORDED,
    }
)
NOTHING = Counts(cause_to_n_fallbacks={}, n_late=0, n_posted=0, n_dropped=0, n_refused=0, n_failed=0)
NOT_FOUND = call_error(grpc.StatusCode.NOT_FOUND, "no")


async def test_fallbacks_are_counted_by_cause(client: AnyClient, script: Script) -> None:
    """The service's reason counts, or the status where there is none; a batch counts its fallbacks."""
    script.on(
        "Choose", fail(grpc.StatusCode.NOT_FOUND, metadata=(("bandit-reason", "EXPERIMENT_NOT_FOUND"),))
    )
    script.on("BatchChoose", fail(grpc.StatusCode.UNIMPLEMENTED))
    assert client.counts == NOTHING
    await settle(client.choose("ranker", fallback=V0))
    await settle(client.batch_choose([Question(experiment="ranker", fallback=V0)] * 3))
    assert client.counts.cause_to_n_fallbacks == {"EXPERIMENT_NOT_FOUND": 1, "UNIMPLEMENTED": 3}
    assert client.counts.n_fallbacks == 4


async def test_late_outcomes_are_counted(client: AnyClient, script: Script) -> None:
    """Outcomes that `reward` and `batch_reward` posted after their window count, one for each metric."""
    script.on("Reward", answer(LATE))
    results = [bandit_pb2.BatchRewardResult(reward=LATE)] * 2
    script.on("BatchReward", answer(bandit_pb2.BatchRewardResponse(results=results)))
    await settle(client.reward("signed", {"click": 1.0}))
    assert client.counts.n_late == 2
    await settle(client.batch_reward([Reward("a", {"click": 1.0}), Reward("b", {"click": 1.0})]))
    assert client.counts == dataclasses.replace(NOTHING, n_late=6)


def test_counts_are_a_snapshot() -> None:
    """Counts that were read do not change, and can be copied and turned into a dict for a log."""
    counters = Counters()
    counters.add(EventKind.FALLBACK, cause=NOT_FOUND)
    before = counters.counts()
    counters.add(EventKind.FALLBACK, cause=NOT_FOUND)
    assert before.n_fallbacks == 1
    assert copy.deepcopy(before) == before
    assert dataclasses.asdict(before)["cause_to_n_fallbacks"] == {"NOT_FOUND": 1}


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
async def test_hook_hears_of_each_event(kind: type[AnyClient], peer: Peer, script: Script) -> None:
    """The hook is called with what is counted, when it is counted."""
    heard: list[ClientEvent] = []
    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND))
    script.on("Reward", answer(LATE))
    client = kind(peer.target, choose_timeout=10.0, on_event=heard.append)
    await settle(client.choose("ranker", fallback=V0))
    await settle(client.reward("signed", {"click": 1.0}))
    await settle(client.close())
    assert heard == [
        ClientEvent(kind=EventKind.FALLBACK, experiment="ranker", cause="NOT_FOUND"),
        ClientEvent(kind=EventKind.LATE, n=2),
    ]


async def test_hook_that_raises(peer: Peer, script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """What a hook raises never reaches the caller, and is logged once however often it happens."""

    def hook(_event: ClientEvent) -> None:
        raise ZeroDivisionError("of the hook")

    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND))
    with BanditClient(peer.target, choose_timeout=10.0, on_event=hook) as client:
        with caplog.at_level(logging.ERROR, "bandit.client"):
            for _ in range(3):
                assert client.choose("ranker", fallback=V0).is_fallback
        assert client.counts.n_fallbacks == 3
    [record] = caplog.records
    assert "on_event raised" in record.getMessage()
    assert "of the hook" in (record.exc_text or "")


@pytest.mark.parametrize("kind", [BanditClient, AsyncBanditClient])
async def test_filter_that_raises(
    kind: type[AnyClient], peer: Peer, script: Script, capfd: pytest.CaptureFixture[str]
) -> None:
    """A filter of the caller's logging that fails outside a request spoils no choice, and is seen."""

    def refuse(_record: logging.LogRecord) -> bool:
        raise LookupError("no request")

    def hook(_event: ClientEvent) -> None:
        raise ZeroDivisionError

    script.on("Choose", fail(grpc.StatusCode.NOT_FOUND))
    log = logging.getLogger("bandit.client")
    log.addFilter(refuse)
    try:
        client = kind(peer.target, choose_timeout=10.0, on_event=hook)
        assert (await settle(client.choose("ranker", fallback=V0))).is_fallback
        question = Question(experiment="other", fallback=V0)
        script.on("BatchChoose", fail(grpc.StatusCode.NOT_FOUND))
        assert [each.arm for each in await settle(client.batch_choose([question]))] == ["v0"]
        await settle(client.close())
    finally:
        log.removeFilter(refuse)
    assert "LookupError: no request" in capfd.readouterr().err


def test_causes_are_bounded() -> None:
    """Reasons that whoever answers makes up do not fill the memory; they are counted together."""
    counters = Counters()
    for number in range(5 * MAX_CAUSES):
        counters.add(EventKind.FALLBACK, cause=call_error(grpc.StatusCode.UNKNOWN, "no", f"REASON_{number}"))
    causes = counters.counts().cause_to_n_fallbacks
    assert len(causes) == MAX_CAUSES + 1
    assert causes[OTHER_CAUSES] == 4 * MAX_CAUSES


def test_no_count_is_lost_between_threads() -> None:
    """Threads that count at the same time lose nothing."""
    counters = Counters()

    def count() -> None:
        for _ in range(2_000):
            counters.add(EventKind.FALLBACK, cause=NOT_FOUND)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.counts().n_fallbacks == 16_000


def test_locks_are_free_after_a_fork() -> None:
    """A process that was forked while another thread counted can count and warn."""
    counters, throttle = Counters(), Throttle()
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with counters._lock, throttle._lock:
            held.set()
            forked.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        counters.add(EventKind.FALLBACK, cause=NOT_FOUND)
        throttle.admit("ranker")
        os._exit(0 if counters.counts().n_fallbacks == 1 else 1)
    forked.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
