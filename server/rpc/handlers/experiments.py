"""ExperimentService: the handlers for the life of experiments and their reports."""

import base64
import secrets
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

from bandit.assignment import SALT_BYTES
from bandit.experiment import Experiment
from bandit.v1 import experiment_pb2
from bandit.validation import shown
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import parse
from server.rpc.handlers.events import EventHandlers
from server.rpc.messages.experiment import (
    STATES,
    declaration_to_message,
    to_experiment,
    to_message,
    to_revision,
)
from server.rpc.messages.launch import to_launch
from server.rpc.messages.paging import page_size, within_bytes
from server.rpc.messages.report import to_bytes, to_report_request
from server.services.errors import InvalidInputError
from server.services.experiments.event_feed import EventFeed
from server.services.experiments.lifecycle import Experiments
from server.services.reports.launch.view import view_of_looks
from server.services.reports.reporter import Reporter
from server.store.records import LiveExperiment, State

OUTPUT_ONLY: Final = frozenset(
    {
        "state",
        "winner",
        "etag",
        "create_time",
        "update_time",
        "start_time",
        "conclude_time",
        "epoch",
        "launch_status",
        "taken_priors",
    }
)
_IMMUTABLE: Final = frozenset({"name"})
_MASKABLE: Final = frozenset(experiment_pb2.Experiment.DESCRIPTOR.fields_by_name) - OUTPUT_ONLY - _IMMUTABLE
_STATES_BACK: Final = {number: state for state, number in STATES.items()}


class ExperimentService:
    """Handlers from request bytes to response bytes.

    Args:
        experiments: Changes experiments.
        reporter: Builds reports.
        events: Has what happened to experiments.
    """

    def __init__(self, experiments: Experiments, reporter: Reporter, events: EventFeed) -> None:
        self._experiments = experiments
        self._reporter = reporter
        self._events = EventHandlers(events)

    async def create_experiment(self, data: bytes, admission: Admission) -> bytes:
        """CreateExperiment."""
        request = parse(experiment_pb2.CreateExperimentRequest, data)
        admission.caller.require_experiment(request.experiment.name)
        experiment = to_experiment(request.experiment, secrets.token_bytes(SALT_BYTES))
        live = await self._experiments.create(
            experiment, validate_only=request.validate_only, caller=admission.caller.name
        )
        return to_message(live).SerializeToString()

    async def get_experiment(self, data: bytes, admission: Admission) -> bytes:
        """GetExperiment."""
        request = parse(experiment_pb2.GetExperimentRequest, data)
        admission.caller.require_experiment(request.name)
        live = await self._experiments.get(request.name)
        (message,) = await self._to_messages([live])
        return message.SerializeToString()

    async def list_experiments(self, data: bytes, admission: Admission) -> bytes:
        """ListExperiments."""
        request = parse(experiment_pb2.ListExperimentsRequest, data)
        size = page_size(request.page_size)
        state = _checked_state(request.state)
        after = _from_token(request.page_token)
        found = await self._experiments.list(after, size + 1, state, admission.caller.namespaces)
        page = within_bytes(await self._to_messages(found[:size]))
        return experiment_pb2.ListExperimentsResponse(
            experiments=page, next_page_token=_to_token(page[-1].name) if len(found) > len(page) else ""
        ).SerializeToString()

    async def _to_messages(self, found: Sequence[LiveExperiment]) -> list[experiment_pb2.Experiment]:
        """Return experiments with the last looks at their launches."""
        looks = await self._experiments.looks(found)
        messages = []
        for live in found:
            message = to_message(live)
            if live.record.launch is not None:
                shares = {} if live.epoch is None else live.epoch.shares
                view = view_of_looks(live.record, looks.get(live.record.number, {}), shares)
                message.launch_status.CopyFrom(to_launch(live.record, view))
            messages.append(message)
        return messages

    async def update_experiment(self, data: bytes, admission: Admission) -> bytes:
        """UpdateExperiment."""
        request = parse(experiment_pb2.UpdateExperimentRequest, data)
        admission.caller.require_experiment(request.experiment.name)
        paths = _checked_mask(list(request.update_mask.paths))

        def apply(stored: Experiment) -> Experiment:
            return _merged(stored, request.experiment, paths)

        live = await self._experiments.update(
            request.experiment.name,
            apply,
            to_revision(request.experiment.etag),
            validate_only=request.validate_only,
            caller=admission.caller.name,
        )
        return to_message(live).SerializeToString()

    async def delete_experiment(self, data: bytes, admission: Admission) -> bytes:
        """DeleteExperiment."""
        request = parse(experiment_pb2.DeleteExperimentRequest, data)
        admission.caller.require_experiment(request.name)
        await self._experiments.delete(request.name, to_revision(request.etag), admission.caller.name)
        return experiment_pb2.DeleteExperimentResponse().SerializeToString()

    async def start_experiment(self, data: bytes, admission: Admission) -> bytes:
        """StartExperiment."""
        request = parse(experiment_pb2.StartExperimentRequest, data)
        admission.caller.require_experiment(request.name)
        live = await self._experiments.start(request.name, to_revision(request.etag), admission.caller.name)
        return to_message(live).SerializeToString()

    async def pause_experiment(self, data: bytes, admission: Admission) -> bytes:
        """PauseExperiment."""
        request = parse(experiment_pb2.PauseExperimentRequest, data)
        admission.caller.require_experiment(request.name)
        live = await self._experiments.pause(request.name, to_revision(request.etag), admission.caller.name)
        return to_message(live).SerializeToString()

    async def conclude_experiment(self, data: bytes, admission: Admission) -> bytes:
        """ConcludeExperiment."""
        request = parse(experiment_pb2.ConcludeExperimentRequest, data)
        admission.caller.require_experiment(request.name)
        live = await self._experiments.conclude(
            request.name, request.winner, to_revision(request.etag), admission.caller.name
        )
        return to_message(live).SerializeToString()

    async def get_report(self, data: bytes, admission: Admission) -> bytes:
        """GetReport."""
        request = parse(experiment_pb2.GetReportRequest, data)
        admission.caller.require_experiment(request.name)
        render = partial(to_bytes, max_bytes=request.max_bytes)
        return await self._reporter.report(request.name, to_report_request(request), render)

    async def list_events(self, data: bytes, admission: Admission) -> bytes:
        """ListEvents."""
        return await self._events.list_events(data, admission)

    def watch_events(self, data: bytes, admission: Admission) -> AsyncGenerator[bytes]:
        """WatchEvents."""
        return self._events.watch_events(data, admission)


def _merged(stored: Experiment, requested: experiment_pb2.Experiment, paths: frozenset[str]) -> Experiment:
    """Return the stored declaration with the named fields of `requested`; without names, all fields."""
    message = declaration_to_message(stored)
    for path in paths or _MASKABLE - (frozenset() if requested.salt else {"salt"}):
        message.ClearField(path)  # type: ignore[arg-type]  # the stub accepts literal names only
        field = experiment_pb2.Experiment.DESCRIPTOR.fields_by_name[path]
        only = experiment_pb2.Experiment()
        only.CopyFrom(requested)
        for other in [known for known, _ in only.ListFields() if known is not field]:
            only.ClearField(other.name)  # type: ignore[arg-type]  # as above
        message.MergeFrom(only)
    return to_experiment(message, stored.salt)


def _checked_mask(paths: list[str]) -> frozenset[str]:
    if paths == ["*"]:
        return frozenset()
    for path in paths:
        if path not in _MASKABLE:
            rule = f"{shown(path)} can't be changed; fields that can: {', '.join(sorted(_MASKABLE))}"
            raise InvalidInputError.of("update_mask", rule)
    return frozenset(paths)


def _checked_state(requested: "experiment_pb2.State.ValueType") -> State | None:
    if requested != experiment_pb2.STATE_UNSPECIFIED and requested not in _STATES_BACK:
        raise InvalidInputError.of("state", f"{requested} is not a state")
    return _STATES_BACK.get(requested)


def _to_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidInputError.of("page_token", f"{shown(token)} is not a token of this service") from None
