"""BanditService: the handlers of Choose and Reward."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError

from bandit.text import MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_UNIT, Kind, is_unit, text_fault
from bandit.v1 import bandit_pb2
from bandit.validation import Violation, is_experiment_name, shown
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import Later, parse
from server.rpc.messages.answers import (
    encode_choice,
    encode_choice_of_stream,
    encode_choices,
    encode_results,
    encode_reward,
)
from server.rpc.messages.times import to_duration
from server.services.access.callers import Caller
from server.services.choose.chooser import Choice, Chooser, Question
from server.services.errors import (
    ExperimentNotFoundError,
    ExperimentNotStartedError,
    InvalidInputError,
    ServiceError,
    StorageUnavailableError,
)
from server.services.reward.inquiries import Inquiries
from server.services.reward.ledger import Ledger, PostedReward, RewardAnswer
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot

MAX_BATCH: Final = 1_000
_SLICE: Final = 100
"""Answers of a batch in one turn of the event loop: some 0.6 ms."""

MAX_ATTRIBUTES: Final = 32
MAX_ELIGIBLE_ARMS: Final = 1_000

_Encode: TypeAlias = Callable[[Choice, bytes], bytes]
"""From an answer and the snapshot's age, encoded, to a response."""

_Requests: TypeAlias = Sequence[bandit_pb2.ChooseRequest]


class BanditService:
    """Handlers from request bytes to response bytes.

    Args:
        chooser: Chooses arms.
        ledger: Records rewards.
        snapshot: The experiments, by name.
        inquiries: Queries the store for names that the snapshot does not have.
    """

    def __init__(self, chooser: Chooser, ledger: Ledger, snapshot: Snapshot, inquiries: Inquiries) -> None:
        self._chooser = chooser
        self._ledger = ledger
        self._snapshot = snapshot
        self._inquiries = inquiries
        self._age_hundredths = -1
        self._encoded_age = b""
        self._batch_turn = asyncio.Lock()

    def choose(self, data: bytes, admission: Admission) -> bytes | Awaitable[bytes]:
        """Choose: from memory, unless the experiment is missing here."""
        request = parse(bandit_pb2.ChooseRequest, data)
        return self._choose(request, admission.caller, encode_choice)

    def choose_each(self, asked: Sequence[tuple[bytes, Admission]]) -> list[bytes | None]:
        """Choose for calls that came together; None for those that `choose` has to answer alone.

        Those are the ones that fail, name more than a unit, or ask for an experiment that is missing here.
        """
        return self._choose_together(asked, bandit_pb2.ChooseRequest.FromString, encode_choice)

    def choose_on_stream(self, data: bytes, admission: Admission) -> bytes | Awaitable[bytes]:
        """One message of ChooseStream: as Choose."""
        request = parse(bandit_pb2.ChooseStreamRequest, data).request
        return self._choose(request, admission.caller, encode_choice_of_stream)

    def choose_each_on_stream(self, asked: Sequence[tuple[bytes, Admission]]) -> list[bytes | None]:
        """As `choose_each`, for messages of ChooseStream."""
        return self._choose_together(asked, _request_of_stream, encode_choice_of_stream)

    def batch_choose(self, data: bytes, admission: Admission) -> bytes | Awaitable[bytes]:
        """BatchChoose: from memory, unless an experiment is missing here."""
        requests = parse(bandit_pb2.BatchChooseRequest, data).requests
        admission.charge(len(requests))
        _require_batch(len(requests))
        unknown = {
            request.experiment for request in requests if self._snapshot.find(request.experiment) is None
        }
        if unknown:
            return self._batch_choose_unknown(requests, unknown, admission.caller)
        if len(requests) > _SLICE:
            return self._answer_slices(requests, admission.caller)
        return self._answer_each(requests, admission.caller)

    def reward(self, data: bytes, admission: Admission) -> bytes | Later[list[RewardAnswer]]:
        """Reward: committed with those that arrive meanwhile."""
        request = parse(bandit_pb2.RewardRequest, data)
        return self._post([_to_report(request)], admission.caller, _encode_only)

    def batch_reward(self, data: bytes, admission: Admission) -> bytes | Later[list[RewardAnswer]]:
        """BatchReward."""
        requests = parse(bandit_pb2.BatchRewardRequest, data).requests
        admission.charge(len(requests))
        _require_batch(len(requests))
        reports = [_to_report(request) for request in requests]
        return self._post(reports, admission.caller, _encode_each)

    def _post(
        self,
        reports: Sequence[PostedReward],
        caller: Caller,
        encode: Callable[[list[RewardAnswer]], bytes],
    ) -> bytes | Later[list[RewardAnswer]]:
        answers = self._ledger.post(reports, caller.namespaces)
        return encode(answers) if isinstance(answers, list) else Later(answers, encode)

    def _choose_together(
        self,
        asked: Sequence[tuple[bytes, Admission]],
        parse_request: Callable[[bytes], bandit_pb2.ChooseRequest],
        encode: _Encode,
    ) -> list[bytes | None]:
        responses: list[bytes | None] = [None] * len(asked)
        plain: list[tuple[CompiledExperiment, str]] = []
        places: list[int] = []
        for place, (data, admission) in enumerate(asked):
            try:
                request = parse_request(data)
                admission.caller.require_experiment(request.experiment)
                _check(request)
            except (DecodeError, ServiceError):
                continue
            experiment = self._snapshot.find(request.experiment)
            if experiment is not None and _is_plain(request):
                plain.append((experiment, request.unit))
                places.append(place)
        try:
            choices = self._chooser.choose_each(plain)
        except ServiceError:  # the signing keys are not loaded yet
            return responses
        age = self._age()
        for place, choice in zip(places, choices, strict=True):
            responses[place] = encode(choice, age)
        return responses

    def _choose(
        self, request: bandit_pb2.ChooseRequest, caller: Caller, encode: _Encode
    ) -> bytes | Awaitable[bytes]:
        caller.require_experiment(request.experiment)
        experiment = self._snapshot.find(request.experiment)
        if experiment is None:
            return self._choose_unknown(request, encode)
        return self._choose_from(experiment, request, encode)

    async def _choose_unknown(self, request: bandit_pb2.ChooseRequest, encode: _Encode) -> bytes:
        """As `_choose_from`, for an experiment that the snapshot does not have."""
        await self._refresh_for([request.experiment])
        return self._choose_from(self._find(request.experiment), request, encode)

    def _choose_from(
        self, experiment: CompiledExperiment, request: bandit_pb2.ChooseRequest, encode: _Encode
    ) -> bytes:
        _check(request)
        if _is_plain(request):
            choice = self._chooser.choose(experiment, request.unit)
        else:
            choice = self._chooser.choose_within(experiment, _to_question(request))
        return encode(choice, self._age())

    async def _batch_choose_unknown(
        self, requests: _Requests, unknown: Iterable[str], caller: Caller
    ) -> bytes:
        """As `_answer_each`, for a batch with names that the snapshot does not have."""
        unavailable = await self._try_refresh_for(unknown)
        return await self._answer_slices(requests, caller, unavailable)

    async def _answer_slices(
        self, requests: _Requests, caller: Caller, unavailable: StorageUnavailableError | None = None
    ) -> bytes:
        """As `_answer_each`, a slice in each turn of the event loop, in which no other batch has one.

        A whole batch would hold up other calls for its time, and ten batches for ten times that.
        """
        answers = []
        for start in range(0, len(requests), _SLICE):
            async with self._batch_turn:
                answers.append(self._answer_each(requests[start : start + _SLICE], caller, unavailable))
                await asyncio.sleep(0)
        return b"".join(answers)

    def _answer_each(
        self, requests: _Requests, caller: Caller, unavailable: StorageUnavailableError | None = None
    ) -> bytes:
        found = {name: self._try_find(name, caller) for name in {request.experiment for request in requests}}
        return encode_choices(self._choose_each(requests, found), self._age(), unavailable)

    async def _refresh_for(self, names: Iterable[str]) -> None:
        """Query the store for names that the snapshot does not have, except invalid ones."""
        await self._inquiries.ask([name for name in names if is_experiment_name(name)])

    async def _try_refresh_for(self, names: Iterable[str]) -> StorageUnavailableError | None:
        """As `_refresh_for`, but return the error, so that the rest of a batch does not fail with it."""
        try:
            await self._refresh_for(names)
        except StorageUnavailableError as error:
            return error
        return None

    def _choose_each(
        self,
        requests: _Requests,
        found: Mapping[str, CompiledExperiment | ServiceError],
    ) -> list[Choice | ServiceError]:
        """Return the answer to each request, in order; those that name at most a unit are chosen together."""
        answers: list[Choice | ServiceError | None] = []
        plain: list[tuple[CompiledExperiment, str]] = []
        for request in requests:
            experiment = found[request.experiment]
            try:
                if isinstance(experiment, ServiceError):
                    raise experiment
                _check(request)
                if _is_plain(request):
                    plain.append((experiment, request.unit))
                    answers.append(None)
                else:
                    answers.append(self._chooser.choose_within(experiment, _to_question(request)))
            except ServiceError as error:
                answers.append(error)
        chosen = iter(self._choose_plain(plain))
        return [next(chosen) if answer is None else answer for answer in answers]

    def _choose_plain(
        self, plain: Sequence[tuple[CompiledExperiment, str]]
    ) -> Sequence[Choice | ServiceError]:
        try:
            return self._chooser.choose_each(plain)
        except ServiceError as error:  # the signing keys are not loaded yet
            return [error] * len(plain)

    def _try_find(self, name: str, caller: Caller) -> CompiledExperiment | ServiceError:
        try:
            caller.require_experiment(name)
            return self._find(name)
        except ServiceError as error:
            return error

    def _find(self, name: str) -> CompiledExperiment:
        experiment = self._snapshot.find(name)
        if experiment is not None:
            return experiment
        if not is_experiment_name(name):
            rule = f"{shown(name)} is not a name: [a-z0-9-]{{1,63}}, optionally after a namespace and a slash"
            raise InvalidInputError.of("experiment", rule)
        if self._snapshot.find_by_name(name) is not None:
            raise ExperimentNotStartedError(name)
        raise ExperimentNotFoundError(name)

    def _age(self) -> bytes:
        """Return the snapshot's age, to 10 ms, as part of a response; empty before the first load."""
        seconds = self._snapshot.age_seconds
        if seconds == inf:
            return b""
        hundredths = int(seconds * 100)
        if hundredths != self._age_hundredths:
            self._age_hundredths = hundredths
            age = to_duration(self._snapshot.age)
            self._encoded_age = bandit_pb2.ChooseResponse(snapshot_age=age).SerializeToString()
        return self._encoded_age


def _request_of_stream(data: bytes) -> bandit_pb2.ChooseRequest:
    return bandit_pb2.ChooseStreamRequest.FromString(data).request


def _is_plain(request: bandit_pb2.ChooseRequest) -> bool:
    """True if a request names at most a unit."""
    return not (request.eligible_arms or request.previous_decision_id)


def _to_question(request: bandit_pb2.ChooseRequest) -> Question:
    if len(request.eligible_arms) > MAX_ELIGIBLE_ARMS:
        rule = f"{len(request.eligible_arms)} arms; there may be at most {MAX_ELIGIBLE_ARMS}"
        raise InvalidInputError.of("eligible_arms", rule)
    return Question(
        unit=request.unit,
        eligible_arms=tuple(request.eligible_arms),
        previous_decision_id=request.previous_decision_id,
    )


def _check(request: bandit_pb2.ChooseRequest) -> None:
    """Raise InvalidInputError if the unit or the attributes are invalid."""
    unit = request.unit
    if unit and not is_unit(unit):
        raise InvalidInputError.of("unit", text_fault(unit, Kind.UNIT, MAX_UNIT))
    if request.attributes:
        _check_attributes(request.attributes)


def _check_attributes(attributes: Mapping[str, str]) -> None:
    violations: list[Violation] = []
    if len(attributes) > MAX_ATTRIBUTES:
        violations.append(Violation("attributes", f"{len(attributes)} entries; at most {MAX_ATTRIBUTES}"))
    for key, value in attributes.items():
        fault = text_fault(key, Kind.ATTRIBUTE_KEY, MAX_ATTRIBUTE_KEY)
        if fault := fault or text_fault(value, Kind.ATTRIBUTE_VALUE, MAX_ATTRIBUTE_VALUE):
            violations.append(Violation(f"attributes[{shown(key)}]", fault))
    if violations:
        raise InvalidInputError(violations)


def _encode_only(answers: list[RewardAnswer]) -> bytes:
    """Encode the response of Reward; raise the error of one that failed."""
    (answer,) = answers
    if isinstance(answer, ServiceError):
        raise answer
    return encode_results(answer)


def _encode_each(answers: list[RewardAnswer]) -> bytes:
    """Encode the response of BatchReward."""
    return b"".join(map(encode_reward, answers))


def _require_batch(n_requests: int) -> None:
    if not 1 <= n_requests <= MAX_BATCH:
        raise InvalidInputError.of("requests", f"{n_requests} requests; there must be 1 to {MAX_BATCH}")


def _to_report(request: bandit_pb2.RewardRequest) -> PostedReward:
    outcomes = request.outcomes
    return PostedReward(request.decision_id, {name: outcomes[name] for name in outcomes}, request.revision)
