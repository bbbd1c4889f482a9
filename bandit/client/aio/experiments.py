"""The experiment calls: `client.experiments`.

They take and return the messages of `bandit.v1.experiment_pb2`, which document every field, and raise the
errors of `bandit.client.errors`, or TypeError for an argument of a wrong type. `timeout` is in seconds for
one call, by default the client's `experiment_timeout`. None of them is retried. An `etag`, where given, makes
a change only to that version.
"""

from __future__ import annotations  # some types exist in the stubs alone

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from bandit.client.aio.launches import AsyncLaunches
from bandit.client.arguments import build
from bandit.client.errors import CallError
from bandit.client.retry import Returns
from bandit.v1 import event_pb2, experiment_pb2_grpc
from bandit.v1 import experiment_pb2 as pb
from bandit.wrong_types import wrong_type

_REPORT_BYTES = 256 * 1024 * 1024  # the channel takes answers of any size


class AsyncExperiments(AsyncLaunches):
    """Experiment calls for asyncio."""

    async def create(
        self, experiment: pb.Experiment, *, validate_only: bool = False, timeout: float | None = None
    ) -> pb.Experiment:
        """Store a new experiment as a draft; with `validate_only` it is only checked."""
        request = build(pb.CreateExperimentRequest, experiment=experiment, validate_only=validate_only)
        return await self._call(self._stub.CreateExperiment, request, timeout)

    async def get(self, name: str, *, timeout: float | None = None) -> pb.Experiment:
        """Return one experiment."""
        return await self._call(self._stub.GetExperiment, build(pb.GetExperimentRequest, name=name), timeout)

    async def list(
        self,
        *,
        state: pb.State.ValueType = pb.STATE_UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Experiment]:
        """Yield all experiments by name, or those in one state; requests each page when it is needed."""
        request = build(pb.ListExperimentsRequest, page_size=page_size, state=state)
        while True:
            page = await self._call(self._stub.ListExperiments, request, timeout)
            for experiment in page.experiments:
                yield experiment
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def update(
        self,
        experiment: pb.Experiment,
        *,
        update_mask: Collection[str] = (),
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> pb.Experiment:
        """Change the fields that the mask names, by default all, if `experiment.etag` is unset or current."""
        if isinstance(update_mask, str):
            raise wrong_type("update_mask", update_mask, "a collection of field names")
        mask = build(FieldMask, {"paths": "update_mask"}, paths=update_mask)
        request = build(
            pb.UpdateExperimentRequest, experiment=experiment, update_mask=mask, validate_only=validate_only
        )
        return await self._call(self._stub.UpdateExperiment, request, timeout)

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Delete an experiment that is not running; its name can never be used again."""
        request = build(pb.DeleteExperimentRequest, name=name, etag=etag)
        await self._call(self._stub.DeleteExperiment, request, timeout)

    async def start(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Start the experiment: from now on its shares decide."""
        request = build(pb.StartExperimentRequest, name=name, etag=etag)
        return await self._call(self._stub.StartExperiment, request, timeout)

    async def pause(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Pause the experiment: its champion answers until the next start."""
        request = build(pb.PauseExperimentRequest, name=name, etag=etag)
        return await self._call(self._stub.PauseExperiment, request, timeout)

    async def conclude(
        self, name: str, *, winner: str, etag: str = "", timeout: float | None = None
    ) -> pb.Experiment:
        """Conclude the experiment: the winner answers from now on."""
        request = build(pb.ConcludeExperimentRequest, name=name, winner=winner, etag=etag)
        return await self._call(self._stub.ConcludeExperiment, request, timeout)

    async def report(
        self,
        name: str,
        *,
        max_epochs: int = 0,
        splits: Collection[Mapping[str, float]] = (),
        lift: float = 0.0,
        metrics: Collection[str] = (),
        timeout: float | None = None,
    ) -> pb.Report:
        """Return what is known about each arm.

        Args:
            name: the experiment's name.
            max_epochs: the most epochs of history; 0 stands for 200.
            splits: static splits to compare with, each arm id to weight; by default an even one.
            lift: the relative lift (uplift) to plan for, such as 0.1; 0 stands for a tenth, for the better.
            metrics: the metrics to report on besides the reward metric; by default all.
            timeout: seconds.
        """
        if isinstance(metrics, str):
            raise wrong_type("metrics", metrics, "a collection of names")
        if isinstance(splits, str | Mapping) or not isinstance(splits, Iterable):
            raise wrong_type("splits", splits, "a collection, each a mapping of arm ids to weights")
        request = build(
            pb.GetReportRequest,
            name=name,
            max_epochs=max_epochs,
            splits=[
                build(pb.StaticSplit, {"weights": f"splits[{position}]"}, weights=split)
                for position, split in enumerate(splits)
            ],
            lift=lift,
            metrics=metrics,
            max_bytes=_REPORT_BYTES,
        )
        return await self._call(self._stub.GetReport, request, timeout)

    async def list_events(
        self,
        experiment: str = "",
        *,
        after_sequence: int = 0,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[event_pb2.Event]:
        """Yield what happened to an experiment in order, or to all; requests each page when it is needed.

        Args:
            experiment: the experiment's name, also of one that was deleted; empty for all experiments.
            after_sequence: only events of the experiment with higher numbers.
            page_size: as in `ListEventsRequest`.
            timeout: seconds for each page.
        """
        request = build(
            event_pb2.ListEventsRequest,
            experiment=experiment,
            after_sequence=after_sequence,
            page_size=page_size,
        )
        while True:
            page = await self._call(self._stub.ListEvents, request, timeout)
            for event in page.events:
                yield event
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def watch_events(
        self,
        experiment: str = "",
        *,
        cursor: str = "",
        after_sequence: int = 0,
        patience: float = 60.0,
    ) -> AsyncIterator[event_pb2.WatchEventsResponse]:
        """Yield what happened, and then what happens from now on, without end.

        Each response has a cursor with which another call goes on after its events. When a server stops or
        is lost, the stream goes on by itself, and no event is lost or repeated.

        Args:
            experiment: as for `list_events`.
            cursor: that of the last response that was handled; empty for all events that are kept.
            after_sequence: as for `list_events`; of no effect beside a cursor.
            patience: how many seconds the service may be away before UnavailableError is raised.
        """
        request = build(
            event_pb2.WatchEventsRequest, experiment=experiment, cursor=cursor, after_sequence=after_sequence
        )
        returns = Returns(patience)
        while True:
            try:
                async for response in self._connection.receive(self._stub.WatchEvents, request):
                    returns.note_answer()
                    yield response
                    request.cursor = response.cursor
                delay = returns.delay()
            except CallError as error:
                found = returns.find_delay(error)
                if found is None:
                    raise
                delay = found
            await asyncio.sleep(delay)

    @property
    def _stub(self) -> experiment_pb2_grpc.ExperimentServiceAsyncStub:
        return self._connection.stubs.experiments
