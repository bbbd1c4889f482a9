"""Rate limits of callers."""

from pathlib import Path

import grpc
import pytest

from bandit.v1 import bandit_pb2
from server.services.access.rate_limit import Bucket
from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.refusals import refused


def test_a_bucket_lets_through_its_rate_and_a_seconds_burst() -> None:
    """In any interval, it lets through at most the rate times the interval, plus a second's worth."""
    bucket = Bucket(50.0, now=0.0)
    taken = sum(bucket.take(step / 1000) == 0.0 for step in range(10_000))
    assert taken == pytest.approx(50 * 10 + 50, abs=1)


def test_a_bucket_returns_the_exact_delay() -> None:
    """After the returned delay one call is let through, and no earlier call is."""
    bucket = Bucket(4.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [0.0] * 4
    bucket.charge(3)
    wait = bucket.take(0.0)
    assert wait == pytest.approx(1.0)
    assert bucket.take(0.9 * wait) > 0.0
    assert bucket.take(wait) == 0.0


def test_a_slow_rate_still_lets_one_call_through() -> None:
    """A rate below one per second lets one call through every few seconds."""
    bucket = Bucket(0.1, now=0.0)
    assert bucket.take(0.0) == 0.0
    assert bucket.take(0.0) == pytest.approx(10.0)
    assert bucket.take(10.0) == 0.0


@pytest.mark.both_listeners
def test_a_caller_beyond_its_rate_is_refused_and_no_other_is(
    start_server: StartServer, tmp_path: Path, enter: Enter
) -> None:
    """It gets RESOURCE_EXHAUSTED with a delay, each item of a batch counts, and others are let through.

    Its calls to both listeners count together.
    """
    limited = 'roles = ["choose", "viewer"]\ncalls_per_second = 0.5'
    callers = {"slow": limited, "batches": limited.replace("0.5", "100"), "quick": 'roles = ["choose"]'}
    file = TokensFile.create(tmp_path / "tokens.toml", callers)
    server = start_server("--tokens", str(file.path))
    slow, quick = enter(server, file.token("slow")), enter(server, file.token("quick"))
    slow.list_page()
    refusal = refused(lambda: slow.choose("missing"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert refusal.retry_seconds is not None
    assert 0 < refusal.retry_seconds <= 2
    assert refused(slow.list_page).reason == "RATE_LIMITED"
    batches = enter(server, file.token("batches"))
    question = bandit_pb2.ChooseRequest(experiment="missing")
    batches.batch_choose(*[question] * 1000)
    delay = refused(batches.list_page).retry_seconds
    assert delay is not None
    assert delay > 4
    for _ in range(50):
        assert refused(lambda: quick.choose("missing")).code is grpc.StatusCode.NOT_FOUND
    assert slow.health_of("") == 1


@pytest.mark.both_listeners
def test_without_tokens_all_callers_share_a_limit(start_server: StartServer, enter: Enter) -> None:
    """Without tokens, `--calls-per-second` limits all callers together."""
    server = start_server("--calls-per-second", "0.1")
    enter(server).list_page()
    assert refused(lambda: enter(server).choose("missing")).reason == "RATE_LIMITED"
