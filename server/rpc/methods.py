"""The methods served: for each its name, its handler, the roles that may call it, and its size limit.

A method without a row here is not served, and a row needs all four.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from bandit.v1 import admin_pb2, bandit_pb2, experiment_pb2, launch_pb2
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import Later
from server.rpc.handlers.admin import AdminService
from server.rpc.handlers.bandit import BanditService
from server.rpc.handlers.experiments import ExperimentService
from server.rpc.handlers.launches import LaunchService
from server.services.access.callers import Role

_Service = TypeVar("_Service")

VIEWER: Final = frozenset({Role.VIEWER, Role.APPROVER, Role.OPERATOR, Role.ADMIN})
_OPERATOR: Final = frozenset({Role.OPERATOR, Role.ADMIN})
_ADMIN: Final = frozenset({Role.ADMIN})
_APPROVER: Final = frozenset({Role.APPROVER})
_CHOOSE: Final = frozenset({Role.CHOOSE})
_REWARD: Final = frozenset({Role.REWARD})

SMALL_BYTES: Final = 64 * 1024
LARGE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Method(Generic[_Service]):
    """One method of a service.

    Attributes:
        name: As in the proto.
        answer: The service's function from request bytes and caller to response bytes, at once or later.
        roles: A caller needs at least one of them.
        max_bytes: Larger requests are refused before they are parsed.
        is_stream: Whether it answers the messages of a stream, one by one.
        answer_each: The same for requests that came together; None for each that `answer` has to answer, and
            None if there is no such function.
    """

    name: str
    answer: Callable[[_Service, bytes, Admission], bytes | Awaitable[bytes] | Later[Any]]
    roles: frozenset[Role]
    max_bytes: int
    is_stream: bool = False
    answer_each: Callable[[_Service, Sequence[tuple[bytes, Admission]]], list[bytes | None]] | None = None


@dataclass(frozen=True, slots=True)
class WatchMethod(Generic[_Service]):
    """One method of a service that answers a request with a stream; see `Method`.

    Attributes:
        name: As there.
        watch: The service's function from request bytes and caller to response bytes, one after the other.
        roles: As there.
        max_bytes: As there.
    """

    name: str
    watch: Callable[[_Service, bytes, Admission], AsyncGenerator[bytes]]
    roles: frozenset[Role]
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Service(Generic[_Service]):
    """A service of the protos, by its full name, and its methods."""

    name: str
    methods: Sequence[Method[_Service] | WatchMethod[_Service]]


BANDIT: Final[Service[BanditService]] = Service(
    bandit_pb2.DESCRIPTOR.services_by_name["BanditService"].full_name,
    (
        Method("Choose", BanditService.choose, _CHOOSE, SMALL_BYTES, answer_each=BanditService.choose_each),
        Method("BatchChoose", BanditService.batch_choose, _CHOOSE, LARGE_BYTES),
        Method(
            "ChooseStream",
            BanditService.choose_on_stream,
            _CHOOSE,
            SMALL_BYTES,
            is_stream=True,
            answer_each=BanditService.choose_each_on_stream,
        ),
        Method("Reward", BanditService.reward, _REWARD, SMALL_BYTES),
        Method("BatchReward", BanditService.batch_reward, _REWARD, LARGE_BYTES),
    ),
)

EXPERIMENTS: Final[Service[ExperimentService]] = Service(
    experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"].full_name,
    (
        Method("GetExperiment", ExperimentService.get_experiment, VIEWER, LARGE_BYTES),
        Method("ListExperiments", ExperimentService.list_experiments, VIEWER, LARGE_BYTES),
        Method("GetReport", ExperimentService.get_report, VIEWER, LARGE_BYTES),
        Method("ListEvents", ExperimentService.list_events, VIEWER, LARGE_BYTES),
        WatchMethod("WatchEvents", ExperimentService.watch_events, VIEWER, LARGE_BYTES),
        Method("CreateExperiment", ExperimentService.create_experiment, _OPERATOR, LARGE_BYTES),
        Method("UpdateExperiment", ExperimentService.update_experiment, _OPERATOR, LARGE_BYTES),
        Method("StartExperiment", ExperimentService.start_experiment, _OPERATOR, LARGE_BYTES),
        Method("PauseExperiment", ExperimentService.pause_experiment, _OPERATOR, LARGE_BYTES),
        Method("ConcludeExperiment", ExperimentService.conclude_experiment, _OPERATOR, LARGE_BYTES),
        Method("DeleteExperiment", ExperimentService.delete_experiment, _ADMIN, LARGE_BYTES),
    ),
)

LAUNCHES: Final[Service[LaunchService]] = Service(
    launch_pb2.DESCRIPTOR.services_by_name["LaunchService"].full_name,
    (
        Method("GetLaunch", LaunchService.get_launch, VIEWER, SMALL_BYTES),
        Method("ApproveLaunch", LaunchService.approve, _APPROVER, SMALL_BYTES),
        Method("AdvanceLaunch", LaunchService.advance, _OPERATOR, SMALL_BYTES),
        Method("HoldLaunch", LaunchService.hold, _OPERATOR, SMALL_BYTES),
        Method("ResumeLaunch", LaunchService.resume, _OPERATOR, SMALL_BYTES),
        Method("RollBackLaunch", LaunchService.roll_back, _OPERATOR, SMALL_BYTES),
        Method("PromoteLaunch", LaunchService.promote, _OPERATOR, SMALL_BYTES),
        Method("RestartLaunch", LaunchService.restart, _OPERATOR, SMALL_BYTES),
    ),
)

ADMIN: Final[Service[AdminService]] = Service(
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
    (
        Method("RotateDecisionKey", AdminService.rotate_decision_key, _ADMIN, LARGE_BYTES),
        Method("RevokeDecisionKey", AdminService.revoke_decision_key, _ADMIN, LARGE_BYTES),
        Method("ListDecisionKeys", AdminService.list_decision_keys, _ADMIN, LARGE_BYTES),
        Method("ListAuditEntries", AdminService.list_audit_entries, _ADMIN, LARGE_BYTES),
    ),
)
