"""A channel to a server, and the experiments that tests create."""

import itertools
import os
from collections.abc import Mapping
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2

from bandit.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    bandit_pb2,
    bandit_pb2_grpc,
    event_pb2,
    experiment_pb2,
    experiment_pb2_grpc,
    launch_pb2,
    launch_pb2_grpc,
)
from tests.support.process import FAST_LANE, LISTENERS, ServerProcess

CALL_SECONDS: Final = 20.0
"""The deadline of a call that is expected to be answered: long, since the machine may be busy."""

SERVICES: Final = (
    bandit_pb2.DESCRIPTOR.services_by_name["BanditService"],
    experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"],
    launch_pb2.DESCRIPTOR.services_by_name["LaunchService"],
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
METHODS: Final = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]
STREAMS: Final = ["/bandit.v1.BanditService/ChooseStream"]
"""Methods that answer bad messages one by one, and do not fail with them."""

WATCHES: Final = ["/bandit.v1.ExperimentService/WatchEvents"]
"""Methods that answer one request with a stream, which does not end by itself."""

_DATA_PLANE: Final = ("/bandit.v1.BanditService/", "/grpc.health.v1.Health/")
"""What the fast lane serves."""

FAST_METHODS: Final = [method for method in METHODS if method.startswith(_DATA_PLANE)]
"""Those of the fast lane."""

ON_LISTENERS: Final = [
    (listener, method)
    for listener in LISTENERS
    for method in (FAST_METHODS if listener == FAST_LANE else METHODS)
]
"""Each listener with each method that it serves."""

_names = itertools.count(1)


class _ByMethod(grpc.Channel):
    """One channel of two: the data plane and health on the one, all other methods on the other.

    Args:
        default: The channel of other methods.
        data: That of the data plane.
    """

    def __init__(self, default: grpc.Channel, data: grpc.Channel) -> None:
        self._default = default
        self._data = data

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._of(method).unary_unary(method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._of(method).unary_stream(method, *arguments, **options)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._of(method).stream_unary(method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.Channel`."""
        return self._of(method).stream_stream(method, *arguments, **options)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:  # noqa: FBT001, FBT002
        """Watch the channel of the data plane."""
        self._data.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """Watch it no more."""
        self._data.unsubscribe(callback)

    def close(self) -> None:
        """Close both."""
        self._default.close()
        self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of(self, method: str) -> grpc.Channel:
        return self._data if method.startswith(_DATA_PLANE) else self._default


class Wire:
    """A channel to a server with the stubs of its services.

    Args:
        address: Where the server listens.
        data_address: Where the data plane and health are called; None for the same address.
        credentials: Credentials of the channel; None for plain text.
        token: A bearer token, sent with every call.
    """

    def __init__(
        self,
        address: str,
        *,
        data_address: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
    ) -> None:
        channel = _channel(address, credentials)
        if data_address is not None and data_address != address:
            channel = _ByMethod(channel, _channel(data_address, credentials))
        self.channel = grpc.intercept_channel(channel, _Bearer(token)) if token else channel
        self.bandit = bandit_pb2_grpc.BanditServiceStub(self.channel)
        self.experiments = experiment_pb2_grpc.ExperimentServiceStub(self.channel)
        self.launches = launch_pb2_grpc.LaunchServiceStub(self.channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(self.channel)

    @classmethod
    def to(
        cls,
        server: ServerProcess,
        listener: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
    ) -> Self:
        """Open a channel to a server that uses one of its listeners for whatever that serves."""
        data_address = server.address_of(listener)
        return cls(server.address, data_address=data_address, credentials=credentials, token=token)

    def close(self) -> None:
        """Drop the connection."""
        self.channel.close()

    def call(self, method: str, data: bytes) -> bytes:
        """Return the answer to bytes that may not be a message; of a stream of answers the first."""
        if method in WATCHES:
            watch = self.channel.unary_stream(method, request_serializer=bytes, response_deserializer=bytes)
            answers = watch(data, timeout=CALL_SECONDS)
            try:
                return next(answers)
            finally:
                answers.cancel()
        send = self.channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        return send(data, timeout=CALL_SECONDS)

    def create(self, declared: experiment_pb2.Experiment) -> experiment_pb2.Experiment:
        """Call CreateExperiment."""
        request = experiment_pb2.CreateExperimentRequest(experiment=declared)
        return self.experiments.CreateExperiment(request, timeout=CALL_SECONDS)

    def start(self, name: str) -> experiment_pb2.Experiment:
        """Call StartExperiment."""
        request = experiment_pb2.StartExperimentRequest(name=name)
        return self.experiments.StartExperiment(request, timeout=CALL_SECONDS)

    def pause(self, name: str) -> experiment_pb2.Experiment:
        """Call PauseExperiment."""
        request = experiment_pb2.PauseExperimentRequest(name=name)
        return self.experiments.PauseExperiment(request, timeout=CALL_SECONDS)

    def conclude(self, name: str, winner: str) -> experiment_pb2.Experiment:
        """Call ConcludeExperiment."""
        request = experiment_pb2.ConcludeExperimentRequest(name=name, winner=winner)
        return self.experiments.ConcludeExperiment(request, timeout=CALL_SECONDS)

    def delete(self, name: str) -> None:
        """Call DeleteExperiment."""
        request = experiment_pb2.DeleteExperimentRequest(name=name)
        self.experiments.DeleteExperiment(request, timeout=CALL_SECONDS)

    def get(self, name: str) -> experiment_pb2.Experiment:
        """Call GetExperiment."""
        request = experiment_pb2.GetExperimentRequest(name=name)
        return self.experiments.GetExperiment(request, timeout=CALL_SECONDS)

    def update(
        self,
        changed: experiment_pb2.Experiment,
        *paths: str,
        validate_only: bool = False,
    ) -> experiment_pb2.Experiment:
        """Call UpdateExperiment for the fields named."""
        request = experiment_pb2.UpdateExperimentRequest(experiment=changed, validate_only=validate_only)
        request.update_mask.paths.extend(paths)
        return self.experiments.UpdateExperiment(request, timeout=CALL_SECONDS)

    def list_page(self, **request: Any) -> experiment_pb2.ListExperimentsResponse:
        """Call ListExperiments."""
        message = experiment_pb2.ListExperimentsRequest(**request)
        return self.experiments.ListExperiments(message, timeout=CALL_SECONDS)

    def list_events(self, **request: Any) -> event_pb2.ListEventsResponse:
        """Call ListEvents."""
        return self.experiments.ListEvents(event_pb2.ListEventsRequest(**request), timeout=CALL_SECONDS)

    def watch_events(self, **request: Any) -> Any:
        """Call WatchEvents; its call is an iterator."""
        return self.experiments.WatchEvents(event_pb2.WatchEventsRequest(**request), timeout=CALL_SECONDS)

    def report(self, name: str, max_epochs: int = 0) -> experiment_pb2.Report:
        """Call GetReport."""
        request = experiment_pb2.GetReportRequest(name=name, max_epochs=max_epochs)
        return self.experiments.GetReport(request, timeout=CALL_SECONDS)

    def launch(self, name: str) -> launch_pb2.Launch:
        """Call GetLaunch."""
        return self.launches.GetLaunch(launch_pb2.GetLaunchRequest(name=name), timeout=CALL_SECONDS)

    def move(self, verb: str, name: str, **arguments: Any) -> launch_pb2.Launch:
        """Call a verb of LaunchService, such as `Advance`, for a reason."""
        message = launch_pb2.LaunchVerb(**{"name": name, "reason": "a test"} | arguments)
        request = getattr(launch_pb2, f"{verb}LaunchRequest")(verb=message)
        answer: launch_pb2.Launch = getattr(self.launches, f"{verb}Launch")(request, timeout=CALL_SECONDS)
        return answer

    def running(self, **changes: Any) -> str:
        """Create and start an experiment; return its name, which no other has."""
        declared = experiment(**changes)
        self.create(declared)
        self.start(declared.name)
        return declared.name

    def choose(self, name: str, **request: Any) -> bandit_pb2.ChooseResponse:
        """Call Choose."""
        message = bandit_pb2.ChooseRequest(experiment=name, **request)
        return self.bandit.Choose(message, timeout=CALL_SECONDS)

    def reward(
        self, decision_id: str, outcomes: Mapping[str, float], revision: int = 0
    ) -> dict[str, "bandit_pb2.OutcomeResult.ValueType"]:
        """Call Reward; return metric mapped to result."""
        message = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes=outcomes, revision=revision)
        return dict(self.bandit.Reward(message, timeout=CALL_SECONDS).results)

    def batch_choose(self, *requests: bandit_pb2.ChooseRequest) -> list[bandit_pb2.BatchChooseResult]:
        """Call BatchChoose."""
        message = bandit_pb2.BatchChooseRequest(requests=requests)
        return list(self.bandit.BatchChoose(message, timeout=CALL_SECONDS).results)

    def batch_reward(self, *requests: bandit_pb2.RewardRequest) -> list[bandit_pb2.BatchRewardResult]:
        """Call BatchReward."""
        message = bandit_pb2.BatchRewardRequest(requests=requests)
        return list(self.bandit.BatchReward(message, timeout=CALL_SECONDS).results)

    def health_of(self, service: str) -> int:
        """Return the status of a service by the health protocol."""
        request = health_pb2.HealthCheckRequest(service=service)
        check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return check(request, timeout=CALL_SECONDS).status

    def n_outcomes(self, name: str) -> int:
        """Return how many outcomes are stored for an experiment, late ones included."""
        metrics = [metric for arm in self.report(name).arms for metric in arm.metrics]
        return sum(m.outcomes + m.open_outcomes + m.late_outcomes for m in metrics)

    def n_decisions(self, name: str) -> dict[str, int]:
        """Return how many decisions are stored for an experiment, by basis."""
        arms = self.report(name).arms
        bases = ("policy", "restricted", "fallback", "unconfirmed")
        return {basis: sum(getattr(arm.decisions, basis) for arm in arms) for basis in bases}


def experiment(**changes: Any) -> experiment_pb2.Experiment:
    """Return an experiment with its own name: arms a and b, champion a, reward metric click."""
    declared: dict[str, Any] = {
        "name": f"x-{os.getpid()}-{next(_names)}",
        "arms": [experiment_pb2.Arm(id="a"), experiment_pb2.Arm(id="b")],
        "champion": "a",
        "metrics": [metric("click")],
        "reward_metric": "click",
    }
    return experiment_pb2.Experiment(**declared | changes)


def metric(name: str, **changes: Any) -> experiment_pb2.Metric:
    """Return a metric, binary by default."""
    declared: dict[str, Any] = {"name": name, "kind": experiment_pb2.METRIC_KIND_BINARY}
    return experiment_pb2.Metric(**declared | changes)


def _channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    options = [("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100)]
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a token with every call, even over plain text."""

    def __init__(self, token: str) -> None:
        self._metadata = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Add the token."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Add the token."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Add the token."""
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), self._metadata])
