"""Who may call what: one table from method to roles. A method without a rule can't be served."""

from collections.abc import Mapping
from typing import Final

from server.services.access.callers import Role

_VIEWER: Final = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
_OPERATOR: Final = frozenset({Role.OPERATOR, Role.ADMIN})
_ADMIN: Final = frozenset({Role.ADMIN})
_CHOOSE: Final = frozenset({Role.CHOOSE})
_REWARD: Final = frozenset({Role.REWARD})
_OPEN: Final[frozenset[Role]] = frozenset()

REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

RULES: Final[Mapping[str, frozenset[Role]]] = {
    "/bandit.v1.BanditService/Choose": _CHOOSE,
    "/bandit.v1.BanditService/BatchChoose": _CHOOSE,
    "/bandit.v1.BanditService/Reward": _REWARD,
    "/bandit.v1.BanditService/BatchReward": _REWARD,
    "/bandit.v1.ExperimentService/GetExperiment": _VIEWER,
    "/bandit.v1.ExperimentService/ListExperiments": _VIEWER,
    "/bandit.v1.ExperimentService/GetReport": _VIEWER,
    "/bandit.v1.ExperimentService/CreateExperiment": _OPERATOR,
    "/bandit.v1.ExperimentService/UpdateExperiment": _OPERATOR,
    "/bandit.v1.ExperimentService/StartExperiment": _OPERATOR,
    "/bandit.v1.ExperimentService/PauseExperiment": _OPERATOR,
    "/bandit.v1.ExperimentService/ConcludeExperiment": _OPERATOR,
    "/bandit.v1.ExperimentService/DeleteExperiment": _ADMIN,
    "/bandit.v1.AdminService/RotateDecisionKey": _ADMIN,
    "/bandit.v1.AdminService/RevokeDecisionKey": _ADMIN,
    "/bandit.v1.AdminService/ListDecisionKeys": _ADMIN,
    "/bandit.v1.AdminService/ListAuditEntries": _ADMIN,
    REFLECTION: _VIEWER,
    # A load balancer has no token, and learns no more than whether this server serves.
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.health.v1.Health/List": _OPEN,
}
"""Full name of the method to the roles of which a caller needs one; none for what is open to everybody."""
