"""Conversion of values to requests and of responses to values.

An argument of a wrong type raises TypeError before any call. A value that the wire can't carry, such as half
a surrogate pair in a unit, raises the InvalidArgumentError that the service would have returned: it may come
from a user, and `choose` serves the fallback for it.
"""

from collections.abc import Collection, Mapping
from typing import TypeVar

import grpc

from bandit.client.arguments import refusal
from bandit.client.errors import CallError, call_error, malformed_error
from bandit.client.statuses import from_status, to_timedelta
from bandit.client.values import (
    Choice,
    Fallback,
    OutcomeResult,
    Reason,
    Rewarded,
    RewardResult,
    ShadowDecision,
)
from bandit.v1 import bandit_pb2
from bandit.wrong_types import wrong_type

_Other = TypeVar("_Other")
_NUMBER_TO_REASON = {
    number: Reason(name.removeprefix("REASON_").lower())
    for name, number in bandit_pb2.Reason.items()
    if number != bandit_pb2.REASON_UNSPECIFIED
}
_NUMBER_TO_OUTCOME_RESULT = {
    number: OutcomeResult(name.removeprefix("OUTCOME_RESULT_").lower())
    for name, number in bandit_pb2.OutcomeResult.items()
    if number != bandit_pb2.OUTCOME_RESULT_UNSPECIFIED
}


def choose_request(
    experiment: str,
    unit: str | None,
    attributes: Mapping[str, str] | None,
    eligible_arms: Collection[str] | None,
    previous: Choice | str | None,
    prefix: str = "",
) -> bandit_pb2.ChooseRequest:
    """Return the request for one choice; `prefix` precedes the names of arguments in errors.

    Raises:
        TypeError: an argument has a wrong type.
        InvalidArgumentError: a value can't be encoded, or `eligible_arms` is empty.
    """
    previous_decision_id = previous.decision_id if isinstance(previous, Choice) else previous
    try:
        _check_types(experiment, eligible_arms)
        request = bandit_pb2.ChooseRequest(
            experiment=experiment,
            unit="" if unit is None else unit,
            attributes=attributes,
            eligible_arms=eligible_arms,
            previous_decision_id="" if previous_decision_id is None else previous_decision_id,
        )
    except (TypeError, ValueError) as error:
        raise _choose_refusal(experiment, unit, attributes, eligible_arms, previous, prefix, error) from error
    if eligible_arms is not None and not request.eligible_arms:
        # On the wire an empty list allows every arm, which is the opposite of what the caller said.
        raise call_error(grpc.StatusCode.INVALID_ARGUMENT, "eligible_arms is empty; None allows all arms")
    return request


def choice(response: bandit_pb2.ChooseResponse) -> Choice:
    """Return the service's answer as a Choice; InternalError if it names no arm."""
    if not response.arm:
        raise malformed_error("the answer names no arm")
    return Choice(
        arm=response.arm,
        decision_id=response.decision_id,
        propensity=response.propensity,
        reason=_NUMBER_TO_REASON.get(response.reason, Reason.UNRECOGNIZED),
        model_uri=response.model_uri,
        epoch=response.epoch,
        snapshot_age=to_timedelta(response.snapshot_age),
        shadows=tuple(map(_shadow, response.shadow_decisions)) if response.shadow_decisions else (),
        payload_source=response.payload,
    )


def _shadow(shadow: bandit_pb2.ShadowDecision) -> ShadowDecision:
    return ShadowDecision(
        arm=shadow.arm,
        decision_id=shadow.decision_id,
        propensity=shadow.propensity,
        model_uri=shadow.model_uri,
        payload_source=shadow.payload,
    )


def choice_or_error(result: bandit_pb2.BatchChooseResult) -> Choice | CallError:
    """Return what became of one choice of a batch."""
    answer = _answer_or_error(result)
    if isinstance(answer, CallError):
        return answer
    return choice(answer) if answer.arm else malformed_error("the answer names no arm")


def choose_response(result: bandit_pb2.ChooseStreamResponse) -> bandit_pb2.ChooseResponse:
    """Return the answer to one question of a stream; raises a CallError if it is an error, or empty."""
    answer = _answer_or_error(result)
    if isinstance(answer, CallError):
        raise answer
    return answer


def check_fallback(fallback: Fallback, path: str = "fallback") -> None:
    """Raise TypeError if `fallback` is not a Fallback, before any call is made."""
    if not isinstance(fallback, Fallback):
        raise wrong_type(path, fallback, "a Fallback")


def reward_request(
    decision: Rewarded, outcomes: Mapping[str, float], revision: int, prefix: str = ""
) -> bandit_pb2.RewardRequest | RewardResult:
    """Return the request for one reward, or its result where nothing is sent: for a fallback.

    `prefix` precedes the names of arguments in errors.

    Raises:
        TypeError: an argument has a wrong type.
        InvalidArgumentError: a value can't be encoded.
    """
    decision_id = _id_of(decision)
    try:
        _check_types(decision_id, outcomes)
        _check_given(outcomes)
        request = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes=outcomes, revision=revision)
    except (TypeError, ValueError, OverflowError) as error:
        raise _reward_refusal(decision, outcomes, revision, prefix, error) from error
    if not decision_id:
        return RewardResult(dict.fromkeys(outcomes, OutcomeResult.FALLBACK), is_fallback=True)
    return request


def _id_of(decision: Choice | ShadowDecision | _Other) -> str | _Other:
    """Return the id of what a reward is for; of another type it is as it was, to be refused by its type."""
    return decision.decision_id if isinstance(decision, Choice | ShadowDecision) else decision


def reward_result(response: bandit_pb2.RewardResponse) -> RewardResult:
    """Return the service's answer to one reward as a RewardResult."""
    return RewardResult(
        {
            metric: _NUMBER_TO_OUTCOME_RESULT.get(result, OutcomeResult.UNRECOGNIZED)
            for metric, result in response.results.items()
        }
    )


def _answer_or_error(
    result: bandit_pb2.BatchChooseResult | bandit_pb2.ChooseStreamResponse,
) -> bandit_pb2.ChooseResponse | CallError:
    match result.WhichOneof("result"):
        case "choice":
            return result.choice
        case "error":
            return from_status(result.error)
        case None:
            return malformed_error("the answer is empty")


def _check_types(text: object, items: object) -> None:
    """Raise TypeError for what protobuf accepts: None for a string, and a string as a list of its letters."""
    if not isinstance(text, str) or isinstance(items, str | bytes):
        raise TypeError


def _check_given(items: object) -> None:
    """Raise TypeError for None, which protobuf accepts as nothing at all."""
    if items is None:
        raise TypeError


def _choose_refusal(
    experiment: object,
    unit: object,
    attributes: object,
    eligible_arms: object,
    previous: object,
    prefix: str,
    error: Exception,
) -> TypeError | CallError:
    """Return what is wrong with the arguments of a choice."""
    if not isinstance(experiment, str):
        return wrong_type(f"{prefix}experiment", experiment, "a str")
    if isinstance(eligible_arms, str | bytes):
        return wrong_type(f"{prefix}eligible_arms", eligible_arms, "a collection of arm ids, or None")
    if not isinstance(previous, Choice | str | bytes | None):
        return wrong_type(f"{prefix}previous", previous, "a Choice, a decision id or None")
    fields = {
        "experiment": experiment,
        "unit": unit,
        "attributes": attributes,
        "eligible_arms": eligible_arms,
        "previous_decision_id": previous.decision_id if isinstance(previous, Choice) else previous,
    }
    called = {"previous_decision_id": "previous"}
    return refusal(bandit_pb2.ChooseRequest, fields, error, prefix=prefix, called=called)


def _reward_refusal(
    decision: object, outcomes: object, revision: object, prefix: str, error: Exception
) -> TypeError | CallError:
    """Return what is wrong with the arguments of a reward."""
    decision_id = _id_of(decision)
    if not isinstance(decision_id, str):
        return wrong_type(f"{prefix}decision", decision, "a Choice, a ShadowDecision or a decision id")
    if outcomes is None or isinstance(outcomes, str | bytes):
        return wrong_type(f"{prefix}outcomes", outcomes, "a mapping of metrics to numbers")
    fields = {"decision_id": decision_id, "outcomes": outcomes, "revision": revision}
    called = {"decision_id": "decision"}
    return refusal(bandit_pb2.RewardRequest, fields, error, prefix=prefix, called=called)
