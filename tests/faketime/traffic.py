"""Experiments in every state, and checks of their decisions after a clock was wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import grpc

from bandit.v1 import bandit_pb2
from tests.support.process import eventually
from tests.support.refusals import Refusal, refusal_of
from tests.support.wire import Wire

CLICK: Final = {"click": 1.0}
RECORDED: Final = {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
DUPLICATE: Final = {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}

PASSES: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""Codes after which a reporter retries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One experiment in each state, and its decisions.

    Attributes:
        open: State to decisions without an outcome.
        rewarded: State to a decision whose click is recorded.
        names: State to the experiment's name.
    """

    open: Mapping[str, list[str]]
    rewarded: Mapping[str, str]
    names: Mapping[str, str]


def declare(wire: Wire) -> Traffic:
    """Make an experiment for each state, with decisions from before it reached the state."""
    names = {state: wire.running() for state in ("running", "paused", "concluded")}
    chosen = {state: [wire.choose(name).decision_id for _ in range(4)] for state, name in names.items()}
    rewarded = {state: decisions.pop() for state, decisions in chosen.items()}
    for decision in rewarded.values():
        assert wire.reward(decision, CLICK) == RECORDED
    wire.pause(names["paused"])
    wire.conclude(names["concluded"], "a")
    return Traffic(open=chosen, rewarded=rewarded, names=names)


def require_unharmed(wire: Wire, traffic: Traffic) -> None:
    """Check that open decisions can be rewarded, repeats are duplicates, and every state takes rewards."""
    for state, name in traffic.names.items():
        for decision in (traffic.open[state].pop(), wire.choose(name).decision_id):
            assert settled(wire, decision) == RECORDED, state
            assert settled(wire, decision) == DUPLICATE, state
        assert settled(wire, traffic.rewarded[state]) == DUPLICATE, state


def settled(wire: Wire, decision: str) -> dict[str, "bandit_pb2.OutcomeResult.ValueType"] | Refusal:
    """Post a click until the answer is final, and return it."""
    return eventually(lambda: posted(wire, decision), until=is_final, seconds=20)


def posted(wire: Wire, decision: str) -> dict[str, "bandit_pb2.OutcomeResult.ValueType"] | Refusal:
    """Post a click once, and return the answer."""
    try:
        return wire.reward(decision, CLICK)
    except grpc.RpcError as error:
        return refusal_of(error)


def is_final(answer: object) -> bool:
    """True if a retry would get the same answer."""
    return not isinstance(answer, Refusal) or answer.code not in PASSES
