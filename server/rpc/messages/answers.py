"""Responses of BanditService as bytes; parts that many responses share are encoded once.

Concatenated serialised messages are one message with the fields of both (protobuf's encoding guide, "Last One
Wins"). So an offer is encoded once per epoch, and a decision adds its id and the snapshot's age.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from google.protobuf import json_format

from bandit.decision_id import TEXT_LENGTH
from bandit.v1 import bandit_pb2
from server.rpc.messages.status import Failure
from server.services.choose.chooser import Choice, ShadowChoice
from server.services.errors import (
    ExperimentNotFoundError,
    ExperimentNotStartedError,
    ServiceError,
    StorageUnavailableError,
)
from server.services.snapshot.offers import Offer, Reason
from server.store.records import OutcomeResult

_REASONS: Final = {
    Reason.POLICY: bandit_pb2.REASON_POLICY,
    Reason.WARM_UP: bandit_pb2.REASON_WARM_UP,
    Reason.PINNED: bandit_pb2.REASON_PINNED,
    Reason.PAUSED: bandit_pb2.REASON_PAUSED,
    Reason.CONCLUDED: bandit_pb2.REASON_CONCLUDED,
    Reason.STALE: bandit_pb2.REASON_STALE,
    Reason.NO_ELIGIBLE_ARM: bandit_pb2.REASON_NO_ELIGIBLE_ARM,
}
_RESULTS: Final = {
    OutcomeResult.RECORDED: bandit_pb2.OUTCOME_RESULT_RECORDED,
    OutcomeResult.LATE: bandit_pb2.OUTCOME_RESULT_LATE,
    OutcomeResult.DUPLICATE: bandit_pb2.OUTCOME_RESULT_DUPLICATE,
    OutcomeResult.REVISED: bandit_pb2.OUTCOME_RESULT_REVISED,
    OutcomeResult.SUPERSEDED: bandit_pb2.OUTCOME_RESULT_SUPERSEDED,
}
_UNKNOWN: Final = (ExperimentNotFoundError, ExperimentNotStartedError)
"""Errors for experiments that are missing here, and may exist in the store."""

_DECISION_ID_PREFIX: Final = bandit_pb2.ChooseResponse(decision_id="." * TEXT_LENGTH).SerializeToString()[
    :-TEXT_LENGTH
]
_SHADOW_ID_PREFIX: Final = bandit_pb2.ShadowDecision(decision_id="." * TEXT_LENGTH).SerializeToString()[
    :-TEXT_LENGTH
]
_SHADOWS: Final = bandit_pb2.ChooseResponse.SHADOW_DECISIONS_FIELD_NUMBER
_RESULTS_FIELD: Final = bandit_pb2.BatchChooseResponse.RESULTS_FIELD_NUMBER
_CHOICE: Final = bandit_pb2.BatchChooseResult.CHOICE_FIELD_NUMBER
_REWARD: Final = bandit_pb2.BatchRewardResult.REWARD_FIELD_NUMBER
_ERROR: Final = bandit_pb2.BatchChooseResult.ERROR_FIELD_NUMBER
_LENGTH_DELIMITED: Final = 2
_CONTINUES: Final = 0x80


def encode_choice(choice: Choice, age: bytes) -> bytes:
    """Encode the response of Choose; `age` is the snapshot's, encoded."""
    offer, decision_id, shadows = choice  # unpacked, since to read a name of a tuple costs more
    plain = _encoded(offer) + decision_id.encode() + age
    return plain + _encode_shadows(shadows) if shadows else plain


def encode_choice_of_stream(choice: Choice, age: bytes) -> bytes:
    """Encode one response of ChooseStream; `age` is the snapshot's, encoded."""
    plain = encode_choice(choice, age)
    return _field_prefix(_CHOICE, len(plain)) + plain


def encode_stream_error(failure: Failure) -> bytes:
    """Encode the response of ChooseStream to a message that failed."""
    message = failure.status.SerializeToString()
    return _field_prefix(_ERROR, len(message)) + message


def _encoded(offer: Offer) -> bytes:
    """Encode the response up to the decision id, with the tag and length of the id."""
    if offer.encoded is None:
        offer.encoded = _encode_offer(offer) + _DECISION_ID_PREFIX
    return offer.encoded


def encode_choices(
    answers: Iterable[Choice | ServiceError], age: bytes, unavailable: StorageUnavailableError | None
) -> bytes:
    """Encode the response of BatchChoose.

    Args:
        answers: The answers, in order.
        age: The snapshot's age, encoded.
        unavailable: The error for experiments that are missing here, if the store could not be queried.
    """
    n_bytes_more = TEXT_LENGTH + len(age)
    beginnings: dict[Offer, bytes] = {}
    pieces: list[bytes] = []
    for answer in answers:
        if isinstance(answer, ServiceError):
            is_in_doubt = unavailable is not None and isinstance(answer, _UNKNOWN)
            pieces.append(_encode_error(unavailable if unavailable is not None and is_in_doubt else answer))
        else:
            offer, decision_id, shadows = answer
            if shadows:
                encoded = encode_choice(answer, age)
                pieces += (_result_prefix(_CHOICE, len(encoded)), encoded)
                continue
            begun = beginnings.get(offer)
            if begun is None:
                encoded = _encoded(offer)
                begun = beginnings[offer] = _result_prefix(_CHOICE, len(encoded) + n_bytes_more) + encoded
            pieces += (begun, decision_id.encode(), age)
    return b"".join(pieces)


def _encode_shadows(shadows: Iterable[ShadowChoice]) -> bytes:
    """Encode who sees the request in shadow, as part of a response."""
    pieces: list[bytes] = []
    for offer, decision_id in shadows:
        if offer.encoded is None:
            shadow = _encode_shadow(offer) + _SHADOW_ID_PREFIX
            offer.encoded = _field_prefix(_SHADOWS, len(shadow) + TEXT_LENGTH) + shadow
        pieces += (offer.encoded, decision_id.encode())
    return b"".join(pieces)


def _encode_shadow(offer: Offer) -> bytes:
    shadow = bandit_pb2.ShadowDecision(
        arm=offer.arm.id, propensity=offer.terms.propensity, model_uri=offer.arm.model_uri
    )
    json_format.ParseDict(dict(offer.arm.payload), shadow.payload)
    return shadow.SerializeToString()


def _encode_offer(offer: Offer) -> bytes:
    response = bandit_pb2.ChooseResponse(
        arm=offer.arm.id,
        propensity=offer.terms.propensity,
        reason=_REASONS[offer.reason],
        epoch=offer.terms.epoch,
        model_uri=offer.arm.model_uri,
    )
    json_format.ParseDict(dict(offer.arm.payload), response.payload)
    return response.SerializeToString()


@lru_cache(maxsize=1024)
def _result_prefix(field: int, n_bytes: int) -> bytes:
    """Encode what precedes a serialised message that is `field` of a result of a batch.

    Field numbers are the same in both batches: `results` in the responses, and `error` in the results.
    """
    inner = _field_prefix(field, n_bytes)
    return _field_prefix(_RESULTS_FIELD, len(inner) + n_bytes) + inner


@lru_cache(maxsize=1024)
def _field_prefix(field: int, n_bytes: int) -> bytes:
    """Encode what precedes a serialised message that is `field` of another.

    The results of a stream have the field numbers of those of a batch: `choice` and `error`.
    """
    return bytes((field << 3 | _LENGTH_DELIMITED, *_varint(n_bytes)))


def _varint(number: int) -> list[int]:
    digits = []
    while number >= _CONTINUES:
        digits.append(number & 0x7F | _CONTINUES)
        number >>= 7
    digits.append(number)
    return digits


def encode_reward(answer: Mapping[str, OutcomeResult] | ServiceError) -> bytes:
    """Encode a result of BatchReward, as part of the response."""
    if isinstance(answer, ServiceError):
        return _encode_error(answer)
    encoded = encode_results(answer)
    return _result_prefix(_REWARD, len(encoded)) + encoded


def encode_results(results: Mapping[str, OutcomeResult]) -> bytes:
    """Encode the response of Reward."""
    return _encode_results(tuple(results.items()))


@lru_cache(maxsize=1024)
def _encode_results(results: tuple[tuple[str, OutcomeResult], ...]) -> bytes:
    """As `encode_results`; cached, because the results of outcomes are nearly always the same."""
    response = bandit_pb2.RewardResponse()
    for name, result in results:
        response.results[name] = _RESULTS[result]
    return response.SerializeToString()


def _encode_error(error: ServiceError) -> bytes:
    """Encode a failed result of a batch, as part of the response."""
    message = Failure.of(error).status.SerializeToString()
    return _result_prefix(_ERROR, len(message)) + message
