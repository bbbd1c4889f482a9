"""BanditService: the handlers of Choose and Reward."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final

from bandit.text import MAX_ATTRIBUTE_KEY, MAX_ATTRIBUTE_VALUE, MAX_UNIT, Kind, is_unit, text_fault
from bandit.v1 import bandit_pb2
from bandit.validation import Violation, is_experiment_name, shown
from server.rpc.guard.authentication import Admission
from server.rpc.guard.calls import parse
from server.rpc.messages.answers import encode_choice, encode_choices, encode_results, encode_reward
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
from server.services.reward.ledger import Ledger, PostedReward
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot

MAX_BATCH: Final = 1_000
MAX_ATTRIBUTES: Final = 32
MAX_ELIGIBLE_ARMS: Final = 1_000


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

    async def choose(self, data: bytes, admission: Admission) -> bytes:
        """Choose."""
        request = parse(bandit_pb2.ChooseRequest, data)
        name = request.experiment
        admission.caller.require_experiment(name)
        experiment = self._snapshot.find(name)
        if experiment is None:
            await self._refresh_for([name])
            experiment = self._find(name)
        _check(request)
        if _is_plain(request):
            choice = self._chooser.choose(experiment, request.unit)
        else:
            choice = self._chooser.choose_within(experiment, _to_question(request))
        return encode_choice(choice, self._age())

    async def batch_choose(self, data: bytes, admission: Admission) -> bytes:
        """BatchChoose."""
        requests = parse(bandit_pb2.BatchChooseRequest, data).requests
        admission.charge(len(requests))
        _require_batch(len(requests))
        names = {request.experiment for request in requests}
        unknown = [name for name in names if self._snapshot.find(name) is None]
        unavailable = await self._try_refresh_for(unknown) if unknown else None
        found = {name: self._try_find(name, admission.caller) for name in names}
        answers = self._choose_each(requests, found)
        return encode_choices(answers, self._age(), unavailable)

    async def reward(self, data: bytes, admission: Admission) -> bytes:
        """Reward."""
        request = parse(bandit_pb2.RewardRequest, data)
        (answer,) = await self._ledger.reward([_to_report(request)], admission.caller.namespaces)
        if isinstance(answer, ServiceError):
            raise answer
        return encode_results(answer)

    async def batch_reward(self, data: bytes, admission: Admission) -> bytes:
        """BatchReward."""
        requests = parse(bandit_pb2.BatchRewardRequest, data).requests
        admission.charge(len(requests))
        _require_batch(len(requests))
        reports = [_to_report(request) for request in requests]
        answers = await self._ledger.reward(reports, admission.caller.namespaces)
        return b"".join(map(encode_reward, answers))

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
        requests: Iterable[bandit_pb2.ChooseRequest],
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


def _require_batch(n_requests: int) -> None:
    if not 1 <= n_requests <= MAX_BATCH:
        raise InvalidInputError.of("requests", f"{n_requests} requests; there must be 1 to {MAX_BATCH}")


def _to_report(request: bandit_pb2.RewardRequest) -> PostedReward:
    outcomes = request.outcomes
    return PostedReward(request.decision_id, {name: outcomes[name] for name in outcomes}, request.revision)
