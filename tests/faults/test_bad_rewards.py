"""Refused rewards cost the database next to nothing: no other caller waits because of them."""

import base64
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import pytest

from bandit.v1 import bandit_pb2
from tests.replicas.conftest import running_replicas
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, Wire

N_IN_FLIGHT: Final = 900
N_CALLS: Final = 1_800
N_EPOCHS: Final = 5_000
LAG_SECONDS: Final = 5.0
"""The servers' default: with a snapshot older than this, decisions are unconfirmed."""

POLL_SECONDS: Final = 0.2
"""The interval of these servers."""

_HISTORY: Final = """
    INSERT INTO epochs
    SELECT experiment, segment, n, nonce, revision, started_at, champion, shares, warming_up, means
    FROM epochs CROSS JOIN generate_series(2, {n_epochs}) AS n
"""


def flood(wire: Wire, requests: Sequence[bandit_pb2.RewardRequest]) -> Counter[grpc.StatusCode]:
    """Post the rewards, hundreds of calls at a time; return how the calls ended."""
    codes: Counter[grpc.StatusCode] = Counter()
    for start in range(0, len(requests), N_IN_FLIGHT):
        some = requests[start : start + N_IN_FLIGHT]
        calls = [wire.bandit.Reward.future(request, timeout=3 * CALL_SECONDS) for request in some]
        codes.update(call_of(call.exception()).code() for call in calls)
    return codes


def n_transactions(url: str) -> int:
    """Return how many transactions the database has counted, as far as its backends have reported."""
    ((count,),) = query(
        url, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    )
    return int(count)


def bad_rewards(wire: Wire, name: str, kind: str) -> list[bandit_pb2.RewardRequest]:
    """Return rewards that are refused for good."""
    decision_id = wire.choose(name).decision_id
    match kind:
        case "metric":
            return [
                bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={f"undeclared-{number}": 1.0})
                for number in range(N_CALLS)
            ]
        case "value":
            return [bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 0.5})] * N_CALLS
        case _:  # a key that is not in the ring: the second byte of the decoded id
            raw = bytearray(base64.urlsafe_b64decode(decision_id))
            raw[1] = 200
            forged = base64.urlsafe_b64encode(raw).decode()
            return [bandit_pb2.RewardRequest(decision_id=forged, outcomes={"click": 1.0})] * N_CALLS


@pytest.mark.parametrize("kind", ["metric", "value", "key"])
def test_a_flood_of_bad_rewards_ages_no_snapshot(
    postgresql: PostgresqlProcess, tmp_path: Path, kind: str
) -> None:
    """900 bad rewards in flight are refused for good, at the cost of hardly a query.

    The experiment has thousands of epochs. The snapshot stays fresh, so that no decision is unconfirmed.
    """
    url = postgresql.create_database()
    with running_replicas(url, tmp_path) as start, ThreadPoolExecutor(1) as thread:
        (server,) = start(1)
        wire = Wire(server.address)
        name = wire.running()
        requests = bad_rewards(wire, name, kind)
        query(url, _HISTORY.format(n_epochs=N_EPOCHS))
        n_before = n_transactions(url)
        began_at = time.monotonic()
        codes = thread.submit(flood, wire, requests)
        ages = [wire.choose(name).snapshot_age.ToTimedelta().total_seconds()]
        while not codes.done():
            ages.append(wire.choose(name).snapshot_age.ToTimedelta().total_seconds())
        n_polls = (time.monotonic() - began_at) / POLL_SECONDS
        n_asked = n_transactions(url) - n_before
        wire.close()
    assert codes.result() == {grpc.StatusCode.INVALID_ARGUMENT: N_CALLS}
    assert max(ages) < LAG_SECONDS
    # A poll has four transactions (counts, changes, keys, this test's own look), an inquiry two.
    assert n_asked < 4 * n_polls + 2 * n_polls + 100
