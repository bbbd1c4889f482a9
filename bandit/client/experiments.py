"""The experiment calls: `client.experiments`, blocking and for asyncio.

They take and return the messages of `bandit.v1.experiment_pb2`, which document every field, and raise the
errors of `bandit.client.errors`. `timeout` is seconds for one call, by default the client's
`experiment_timeout`. None of them is retried. An `etag`, where given, makes a change only to that version.
"""

# ruff: noqa: ASYNC109 - a timeout becomes the deadline of the call, which the service sees as well

from __future__ import annotations  # some types are those of the stubs alone

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from bandit.client.connections import AsyncConnection, Connection
from bandit.v1 import experiment_pb2 as pb
from bandit.v1 import experiment_pb2_grpc

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT")


def _update_request(
    experiment: pb.Experiment, update_mask: Collection[str], *, validate_only: bool
) -> pb.UpdateExperimentRequest:
    if isinstance(update_mask, str):
        raise TypeError("update_mask must be a collection of field names, got str")
    mask = FieldMask(paths=update_mask)
    return pb.UpdateExperimentRequest(experiment=experiment, update_mask=mask, validate_only=validate_only)


_REPORT_BYTES = 256 * 1024 * 1024  # the channel takes answers of any size


def _report_request(
    name: str,
    max_epochs: int,
    splits: Collection[Mapping[str, float]],
    lift: float,
    metrics: Collection[str],
) -> pb.GetReportRequest:
    if isinstance(metrics, str):
        raise TypeError("metrics must be a collection of names, got str")
    return pb.GetReportRequest(
        name=name,
        max_epochs=max_epochs,
        splits=[pb.StaticSplit(weights=split) for split in splits],
        lift=lift,
        metrics=metrics,
        max_bytes=_REPORT_BYTES,
    )


class Experiments:
    """Blocking experiment calls; thread-safe."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    def create(
        self, experiment: pb.Experiment, *, validate_only: bool = False, timeout: float | None = None
    ) -> pb.Experiment:
        """Stores a new experiment as a draft; with `validate_only` it is only checked."""
        request = pb.CreateExperimentRequest(experiment=experiment, validate_only=validate_only)
        return self._call(self._stub.CreateExperiment, request, timeout)

    def get(self, name: str, *, timeout: float | None = None) -> pb.Experiment:
        """Returns one experiment."""
        return self._call(self._stub.GetExperiment, pb.GetExperimentRequest(name=name), timeout)

    def list(
        self,
        *,
        state: pb.State.ValueType = pb.STATE_UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[pb.Experiment]:
        """Yields all experiments by name, or those in one state, asking for each page when it is needed."""
        request = pb.ListExperimentsRequest(page_size=page_size, state=state)
        while True:
            page = self._call(self._stub.ListExperiments, request, timeout)
            yield from page.experiments
            if not page.next_page_token:
                return
            request = pb.ListExperimentsRequest(
                page_size=page_size, state=state, page_token=page.next_page_token
            )

    def update(
        self,
        experiment: pb.Experiment,
        *,
        update_mask: Collection[str] = (),
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> pb.Experiment:
        """Changes the fields that the mask names, by default all; `experiment.etag` guards the version."""
        request = _update_request(experiment, update_mask, validate_only=validate_only)
        return self._call(self._stub.UpdateExperiment, request, timeout)

    def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes an experiment that is not running; its name is never used again."""
        request = pb.DeleteExperimentRequest(name=name, etag=etag)
        self._call(self._stub.DeleteExperiment, request, timeout)

    def start(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Lets shares decide."""
        request = pb.StartExperimentRequest(name=name, etag=etag)
        return self._call(self._stub.StartExperiment, request, timeout)

    def pause(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Lets the champion answer until the next start."""
        request = pb.PauseExperimentRequest(name=name, etag=etag)
        return self._call(self._stub.PauseExperiment, request, timeout)

    def conclude(
        self, name: str, *, winner: str, etag: str = "", timeout: float | None = None
    ) -> pb.Experiment:
        """Lets the winner answer for good."""
        request = pb.ConcludeExperimentRequest(name=name, winner=winner, etag=etag)
        return self._call(self._stub.ConcludeExperiment, request, timeout)

    def report(
        self,
        name: str,
        *,
        max_epochs: int = 0,
        splits: Collection[Mapping[str, float]] = (),
        lift: float = 0.0,
        metrics: Collection[str] = (),
        timeout: float | None = None,
    ) -> pb.Report:
        """Returns what is known about each arm.

        Args:
            name: The experiment's.
            max_epochs: At most so many epochs of history; 0: 200.
            splits: Static splits to compare with, each arm id to weight; none: an even one.
            lift: The relative lift of the outlook, such as 0.1; 0: a tenth, for the better.
            metrics: Names of the metrics to report on beside the reward metric; none: all.
            timeout: Seconds.
        """
        request = _report_request(name, max_epochs, splits, lift, metrics)
        return self._call(self._stub.GetReport, request, timeout)

    @property
    def _stub(self) -> experiment_pb2_grpc.ExperimentServiceStub:
        return self._connection.stubs.experiments

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        seconds = self._timeout if timeout is None else timeout
        return self._connection.call(method, request, seconds)


class AsyncExperiments:
    """Experiment calls of asyncio."""

    def __init__(self, connection: AsyncConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def create(
        self, experiment: pb.Experiment, *, validate_only: bool = False, timeout: float | None = None
    ) -> pb.Experiment:
        """Stores a new experiment as a draft; with `validate_only` it is only checked."""
        request = pb.CreateExperimentRequest(experiment=experiment, validate_only=validate_only)
        return await self._call(self._stub.CreateExperiment, request, timeout)

    async def get(self, name: str, *, timeout: float | None = None) -> pb.Experiment:
        """Returns one experiment."""
        return await self._call(self._stub.GetExperiment, pb.GetExperimentRequest(name=name), timeout)

    async def list(
        self,
        *,
        state: pb.State.ValueType = pb.STATE_UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Experiment]:
        """Yields all experiments by name, or those in one state, asking for each page when it is needed."""
        request = pb.ListExperimentsRequest(page_size=page_size, state=state)
        while True:
            page = await self._call(self._stub.ListExperiments, request, timeout)
            for experiment in page.experiments:
                yield experiment
            if not page.next_page_token:
                return
            request = pb.ListExperimentsRequest(
                page_size=page_size, state=state, page_token=page.next_page_token
            )

    async def update(
        self,
        experiment: pb.Experiment,
        *,
        update_mask: Collection[str] = (),
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> pb.Experiment:
        """Changes the fields that the mask names, by default all; `experiment.etag` guards the version."""
        request = _update_request(experiment, update_mask, validate_only=validate_only)
        return await self._call(self._stub.UpdateExperiment, request, timeout)

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes an experiment that is not running; its name is never used again."""
        request = pb.DeleteExperimentRequest(name=name, etag=etag)
        await self._call(self._stub.DeleteExperiment, request, timeout)

    async def start(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Lets shares decide."""
        request = pb.StartExperimentRequest(name=name, etag=etag)
        return await self._call(self._stub.StartExperiment, request, timeout)

    async def pause(self, name: str, *, etag: str = "", timeout: float | None = None) -> pb.Experiment:
        """Lets the champion answer until the next start."""
        request = pb.PauseExperimentRequest(name=name, etag=etag)
        return await self._call(self._stub.PauseExperiment, request, timeout)

    async def conclude(
        self, name: str, *, winner: str, etag: str = "", timeout: float | None = None
    ) -> pb.Experiment:
        """Lets the winner answer for good."""
        request = pb.ConcludeExperimentRequest(name=name, winner=winner, etag=etag)
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
        """Returns what is known about each arm.

        Args:
            name: The experiment's.
            max_epochs: At most so many epochs of history; 0: 200.
            splits: Static splits to compare with, each arm id to weight; none: an even one.
            lift: The relative lift of the outlook, such as 0.1; 0: a tenth, for the better.
            metrics: Names of the metrics to report on beside the reward metric; none: all.
            timeout: Seconds.
        """
        request = _report_request(name, max_epochs, splits, lift, metrics)
        return await self._call(self._stub.GetReport, request, timeout)

    @property
    def _stub(self) -> experiment_pb2_grpc.ExperimentServiceAsyncStub:
        return self._connection.stubs.experiments

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        seconds = self._timeout if timeout is None else timeout
        return await self._connection.call(method, request, seconds)
