"""The verbs of launches: what people and pipelines do to a challenger."""

import enum
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Final

from bandit.experiment import JsonValue
from bandit.launch import moves
from bandit.launch.gates import Look
from bandit.launch.launching import Launching, MoveRefusedError, Occasion
from bandit.launch.state import ENDED, ON_ITS_WAY, ArmState, Launch
from bandit.text import Kind, text_fault
from bandit.validation import MAX_DESCRIPTION, shown
from server.services.errors import (
    ExperimentChangedError,
    ExperimentNotFoundError,
    InvalidInputError,
    LaunchMovedError,
    NoLaunchError,
)
from server.services.experiments import launching
from server.services.experiments.launching import MoveTerms
from server.services.experiments.lifecycle import Experiments
from server.services.reports.launch.look import look_at
from server.services.reports.launch.sentences import gate_sentence
from server.services.reports.launch.view import LaunchView, view_of
from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.clock import Clock
from server.store.contract import Store
from server.store.records import ExperimentRecord, ReportFacts, VerbRequest

LONGEST_REQUEST_ID: Final = 64
ABORT_ATTEMPTS: Final = 100
"""How often a rollback is tried while others keep changing the experiment: until it is applied."""


class Verb(enum.StrEnum):
    """What can be done to a challenger."""

    APPROVE = "approve"
    ADVANCE = "advance"
    HOLD = "hold"
    RESUME = "resume"
    ROLL_BACK = "rollback"
    PROMOTE = "promote"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbArguments:
    """The arguments of a verb.

    Attributes:
        name: The experiment's name.
        arm: The arm's id; empty for the only one that the verb can be about.
        reason: Why.
        request_id: Names the request, so that it is carried out once; empty for a request of its own.
        entry: The visit that is meant; 0 for whichever the arm is in.
        validate_only: Change nothing.
    """

    name: str
    arm: str = ""
    reason: str = ""
    request_id: str = ""
    entry: int = 0
    validate_only: bool = False

    def digest(self, verb: Verb) -> bytes:
        """Return the SHA-256 of the verb and what it is about."""
        parts = (verb.value, self.name, self.arm, self.reason, str(self.entry))
        return sha256("\0".join(parts).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAnswer:
    """The launch of an experiment.

    Attributes:
        record: The experiment.
        view: Its launch, in figures and words.
        is_validated_only: Whether nothing was changed.
    """

    record: ExperimentRecord
    view: LaunchView
    is_validated_only: bool = False


class Launches:
    """Shows launches, and carries out verbs.

    Args:
        store: Has the experiments and facts.
        experiments: Changes experiments.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
    """

    def __init__(self, store: AsyncStore, experiments: Experiments, clock: Clock, *, lag: timedelta) -> None:
        self._store = store.for_calls
        self._experiments = experiments
        self._clock = clock
        self._lag = lag

    async def get(self, name: str) -> LaunchAnswer:
        """Return the launch of an experiment.

        Raises:
            ExperimentNotFoundError: There is no experiment of this name.
            NoLaunchError: It has no launch.
        """
        known, look = await self._look(name, looks_ahead=True)
        return LaunchAnswer(record=known.found.record, view=view_of(look))

    async def act(self, verb: Verb, arguments: VerbArguments, caller: str) -> LaunchAnswer:
        """Carry out a verb, once for each request id, and return the launch as it is then.

        Raises:
            InvalidInputError: An argument breaks its rule, or the request id was used for something else.
            ExperimentNotFoundError: There is no experiment of this name.
            NoLaunchError: It has no launch.
            LaunchMovedError: The arm is in another visit than the one that is meant.
            LaunchRefusedError: The rules of launches forbid it.
        """
        _require_valid(arguments)
        request = None
        if arguments.request_id:
            request = VerbRequest(
                caller=caller, request_id=arguments.request_id, digest=arguments.digest(verb)
            )
            if await self._is_done(request):
                return await self.get(arguments.name)
        known, look = await self._look(arguments.name)
        arm = _arm_of(verb, arguments, look)
        passed = _passed_over(verb, arm, look)
        change = partial(self._changed, verb, arguments, arm, look, caller)
        try:
            live = await self._experiments.move(
                arguments.name,
                change,
                event=verb.value,
                caller=caller,
                validate_only=arguments.validate_only,
                attempts=ABORT_ATTEMPTS if verb is Verb.ROLL_BACK else 5,
                terms=MoveTerms(reason=arguments.reason, request=request, figures={arm: passed}),
            )
        except ExperimentChangedError:
            if request is None or not await self._is_done(request):
                raise
            return await self.get(arguments.name)
        if not arguments.validate_only:
            return await self.get(arguments.name)
        after = replace(known, found=replace(known.found, record=live.record))
        looked = await self._store.run(Thread.REPORT, self._look_at, after)
        assert looked is not None  # noqa: S101 - a move leaves a launch
        return LaunchAnswer(record=live.record, view=view_of(looked), is_validated_only=True)

    def _changed(
        self,
        verb: Verb,
        arguments: VerbArguments,
        arm: str,
        look: Look,
        caller: str,
        record: ExperimentRecord,
    ) -> ExperimentRecord:
        """Return the experiment after a verb; may be called more than once, with newer experiments."""
        occasion = launching.occasion_for(record, self._clock.now(), caller, arguments.reason)

        def move(now: Launching, occasion: Occasion) -> Launching:
            visit = now.arm(arm)
            if verb is not Verb.ROLL_BACK and arguments.entry and visit.entry != arguments.entry:
                raise LaunchMovedError(arm, visit.entry, arguments.entry)
            if verb in {Verb.ADVANCE, Verb.PROMOTE}:
                _require_harmless(arm, look)
            return _VERBS[verb](now, arm, occasion)

        return launching.moved(record, move, occasion)

    async def _is_done(self, request: VerbRequest) -> bool:
        """Return whether a request was carried out; InvalidInputError if its id was used for another one."""
        found = await self._store.find_request(request.caller, request.request_id)
        if found is not None and found.digest != request.digest:
            rule = f"{shown(request.request_id)} was used for another request: use a new one"
            raise InvalidInputError.of("request_id", rule)
        return found is not None

    async def _look(self, name: str, *, looks_ahead: bool = False) -> tuple[ReportFacts, Look]:
        known = await self._store.read_report(name, self._lag, self._clock.now())
        if known is None:
            raise ExperimentNotFoundError(name)
        looked = partial(self._look_at, looks_ahead=looks_ahead)
        look = await self._store.run(Thread.REPORT, looked, known)
        if look is None:
            raise NoLaunchError(name, is_declared=known.found.record.experiment.launch is not None)
        return known, look

    def _look_at(self, _: Store, known: ReportFacts, *, looks_ahead: bool = True) -> Look | None:
        return look_at(
            known,
            self._lag,
            self._clock.now(),
            is_clock_doubted=self._clock.is_doubted,
            looks_ahead=looks_ahead,
        )


_VERBS: Final = {
    Verb.APPROVE: lambda now, arm, _: moves.approved(now, arm),
    Verb.ADVANCE: moves.advanced,
    Verb.HOLD: moves.held,
    Verb.RESUME: lambda now, arm, _: moves.resumed(now, arm),
    Verb.ROLL_BACK: moves.rolled_back,
    Verb.PROMOTE: moves.promoted,
    Verb.RESTART: moves.restarted,
}


def _require_valid(arguments: VerbArguments) -> None:
    if not arguments.reason.strip():
        raise InvalidInputError.of("reason", "is missing: say why, for whoever reads the events")
    if fault := text_fault(arguments.reason, Kind.DESCRIPTION, MAX_DESCRIPTION):
        raise InvalidInputError.of("reason", fault)
    text = arguments.request_id
    if len(text) > LONGEST_REQUEST_ID or not (text.isascii() and text.isprintable()):
        rule = f"must have at most {LONGEST_REQUEST_ID} printable ASCII characters, got {shown(text)}"
        raise InvalidInputError.of("request_id", rule)


def _arm_of(verb: Verb, arguments: VerbArguments, look: Look) -> str:
    """Return the arm that a request is about, which it may leave out if there is only one."""
    if arguments.arm:
        return arguments.arm
    candidates = sorted(_candidates(verb, look.launching.launch))
    if len(candidates) != 1:
        known = f"there are {', '.join(candidates)}" if candidates else "there is none that this can be about"
        raise InvalidInputError.of("arm", f"is missing: name the arm; {known}")
    return candidates[0]


def _candidates(verb: Verb, launch: Launch) -> list[str]:
    match verb:
        case Verb.RESTART:
            states = ENDED
        case Verb.ROLL_BACK:
            states = ON_ITS_WAY | {ArmState.PROMOTED}
        case _:
            states = ON_ITS_WAY | {ArmState.WAITING}
    return [arm_id for arm_id, arm in launch.arms.items() if arm.state in states]


def _passed_over(verb: Verb, arm: str, look: Look) -> dict[str, JsonValue]:
    """Return the gates that a person passes over, for the event."""
    if verb not in {Verb.ADVANCE, Verb.PROMOTE} or arm not in look.launching.launch.arms:
        return {}
    closed = [gate_sentence(gate) for gate in look.gates(arm) if not gate.is_open]
    return {"passed_over": list(closed)} if closed else {}


def _require_harmless(arm: str, look: Look) -> None:
    """Raise MoveRefusedError if a guardrail shows that the arm does harm."""
    for finding in look.harmed.get(arm, ()):
        raise MoveRefusedError(arm, f"{finding.metric} shows harm; roll it back, or wait until it is quiet")
