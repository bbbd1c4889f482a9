"""What tests of two releases on one database share."""

from collections.abc import Callable

import grpc

from bandit.v1 import bandit_pb2
from server.store.tables.writers import EXPIRY
from tests.support.postgresql import query
from tests.support.wire import Wire


def works(wires: list[Wire], name: str) -> None:
    """Check that every server answers Choose, takes the rewards of all, and knows them the second time."""
    for chooser in wires:
        decision_id = chooser.choose(name).decision_id
        for position, wire in enumerate(wires):
            result = bandit_pb2.OUTCOME_RESULT_DUPLICATE if position else bandit_pb2.OUTCOME_RESULT_RECORDED
            assert wire.reward(decision_id, {"click": 1.0}) == {"click": result}


def forget_beats(url: str) -> None:
    """Make the database look as if no server had sent a beat for a minute."""
    query(url, "UPDATE writers SET seen_at = seen_at - %s", [EXPIRY.total_seconds() * 1e6])


def has_failed(call: Callable[[], object]) -> bool:
    """Return whether a call fails: PostgreSQL ends a frozen server's transaction after 10 s."""
    try:
        call()
    except grpc.RpcError:
        return True
    return False


def last_revisions(url: str) -> list[tuple[object, ...]]:
    """Return the newest revision of each experiment, which only a declaration changes, unlike its epoch."""
    newest = "SELECT experiment, max(revision) FROM configurations GROUP BY experiment ORDER BY experiment"
    return query(url, newest)
