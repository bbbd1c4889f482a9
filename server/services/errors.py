"""Errors of the services, and what the caller should do about each.

    ServiceError
    ├── InvalidInputError           correct the fields named and call again
    ├── DecisionIdInvalidError      hand over a decision id as Choose returned it
    ├── PermissionDeniedError       call with a token that may do this, to this experiment
    ├── ExperimentNotFoundError     name an experiment that exists
    ├── ExperimentNotStartedError   start the experiment first
    ├── TransitionRefusedError      the experiment's state does not allow this
    ├── NoLaunchError               declare a launch, or start the experiment
    ├── LaunchRefusedError          the rules of launches do not allow this move now
    ├── LaunchMovedError            look at the launch again: the arm is in another visit than was meant
    ├── QuotaReachedError           delete what is not needed, or have the limit raised
    ├── DecisionExpiredError        too late: nothing helps
    ├── DecisionSealedError         as above, also for outcomes that may have been recorded before
    ├── OutcomeConflictError        another value is stored: post a higher revision if this one is right
    ├── ExperimentExistsError       use another name
    ├── ExperimentChangedError      read the experiment again, then repeat the change
    ├── RotationRefusedError        try again once the last rotation has settled
    ├── RevocationRefusedError      rotate first, or name an existing key
    ├── ServerOutdatedError         call a server of the newer release
    ├── OlderServersError           stop the servers of an earlier release first
    ├── RevocationUnsettledError    find and end the transaction that is still open
    ├── OverloadedError             try again after `retry_after`
    │   └── StorageFullError        as above, once there is room
    ├── ClockInDoubtError           as above: whether it is too late is not known now
    └── StorageUnavailableError     try again after `retry_after`
        └── StorageUnsafeError      as above, once the database is configured to keep what it acknowledges

Messages are for the caller: they contain no SQL, no path and no class name.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import ClassVar

from bandit.validation import Violation, shown


class ServiceError(Exception):
    """A call that can't be answered.

    Attributes:
        reason: A stable word for programs, in capitals.
        retry_after: How long to wait before a retry; None where a retry does not help.
        violations: The broken rules, where input was invalid.
    """

    reason: ClassVar[str] = "UNKNOWN"
    retry_after: timedelta | None = None
    violations: tuple[Violation, ...] = ()


class InvalidInputError(ServiceError):
    """Some fields break their rules."""

    reason = "INVALID_INPUT"

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{field}: {description}" for field, description in self.violations))

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidInputError":
        """Return the error of one broken rule."""
        return cls([Violation(field, description)])


class DecisionIdInvalidError(ServiceError):
    """The decision id was not issued by this service."""

    reason = "DECISION_ID_INVALID"
    violations = (Violation("decision_id", "was not issued by this service"),)

    def __init__(self) -> None:
        super().__init__("decision_id: was not issued by this service")


class PermissionDeniedError(ServiceError):
    """The caller may not do this, or not to this experiment."""

    reason = "PERMISSION_DENIED"

    def __init__(
        self, text: str = "the caller may not use this experiment, whether it exists or not"
    ) -> None:
        super().__init__(text)


class ExperimentNotFoundError(ServiceError):
    """There is no such experiment."""

    reason = "EXPERIMENT_NOT_FOUND"

    def __init__(self, name: str | None) -> None:
        which = (
            "the experiment of this decision was deleted"
            if name is None
            else f"there is no experiment {shown(name)}"
        )
        super().__init__(which)


class ExperimentNotStartedError(ServiceError):
    """The experiment is a draft."""

    reason = "EXPERIMENT_NOT_STARTED"

    def __init__(self, name: str) -> None:
        super().__init__(f"experiment {name!r} has not been started")


class TransitionRefusedError(ServiceError):
    """The experiment's state does not allow this."""

    reason = "STATE_DOES_NOT_ALLOW"

    def __init__(self, name: str, state: str, change: str) -> None:
        super().__init__(f"experiment {name!r} is {state}: it can't be {change}")


class NoLaunchError(ServiceError):
    """The experiment has no launch."""

    reason = "NO_LAUNCH"

    def __init__(self, name: str, *, is_declared: bool) -> None:
        why = "its launch begins when it is started" if is_declared else "it declares no [launch]"
        super().__init__(f"experiment {name!r} has no launch: {why}")


class LaunchRefusedError(ServiceError):
    """The rules of launches forbid this move."""

    reason = "LAUNCH_REFUSED"

    def __init__(self, name: str, why: object) -> None:
        super().__init__(f"experiment {name!r}, {why}")


class LaunchMovedError(ServiceError):
    """The arm has moved since the caller looked."""

    reason = "LAUNCH_MOVED"

    def __init__(self, arm: str, entry: int, meant: int) -> None:
        super().__init__(
            f"arm {arm!r} has moved on: it is in visit {entry}, and the request means visit {meant}; "
            "look at the launch again"
        )


class QuotaReachedError(ServiceError):
    """The server's limits allow no more of these."""

    reason = "QUOTA_REACHED"

    @classmethod
    def of_experiments(cls, namespace: str, most: int) -> "QuotaReachedError":
        """Return the error of one experiment too many."""
        where = f"namespace {namespace!r} has" if namespace else "there are"
        return cls(f"{where} {most} experiments, the most that this server allows: delete one first")

    @classmethod
    def of_arms(cls, n_arms: int, most: int) -> "QuotaReachedError":
        """Return the error of one arm too many."""
        return cls(f"the experiment would have {n_arms} arms; this server allows at most {most}")


class DecisionExpiredError(ServiceError):
    """The decision is older than `max_decision_age`, and this is its first outcome."""

    reason = "DECISION_EXPIRED"

    def __init__(self, metrics: Iterable[str]) -> None:
        names = ", ".join(sorted(metrics))
        super().__init__(f"the decision is past max_decision_age: no first outcome is accepted for {names}")


class DecisionSealedError(ServiceError):
    """The decision's epoch is sealed: its outcomes are only in sums, where they can't be told apart."""

    reason = "DECISION_SEALED"

    def __init__(self) -> None:
        super().__init__(
            "the decision's epoch is sealed: it is past max_decision_age and the retention, so no outcome is "
            "accepted, and whether one was recorded before is no longer known"
        )


class OutcomeConflictError(ServiceError):
    """Another value is stored at the same revision."""

    reason = "OUTCOME_CONFLICT"

    def __init__(self, metrics: Iterable[str]) -> None:
        names = ", ".join(sorted(metrics))
        super().__init__(
            f"another value of {names} is stored for this decision at this revision; "
            "post a higher revision to replace it. Nothing of this call was stored"
        )


class ExperimentExistsError(ServiceError):
    """The name is or was in use."""

    reason = "EXPERIMENT_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"an experiment {name!r} exists or existed; names are never used again")


class ExperimentChangedError(ServiceError):
    """The experiment has changed since the caller read it."""

    reason = "EXPERIMENT_CHANGED"

    def __init__(self, name: str) -> None:
        super().__init__(f"experiment {name!r} has changed since it was read; read it again")


class RotationRefusedError(ServiceError):
    """The keys can't be rotated now."""

    reason = "ROTATION_REFUSED"

    def __init__(self, why: str) -> None:
        super().__init__(f"no new key was made: {why}")


class RevocationRefusedError(ServiceError):
    """The key can't be revoked."""

    reason = "REVOCATION_REFUSED"

    def __init__(self, why: str) -> None:
        super().__init__(f"no key was revoked: {why}")


class ServerOutdatedError(ServiceError):
    """A newer release is in service, and the change would lose what it declared."""

    reason = "SERVER_OUTDATED"


class OlderServersError(ServiceError):
    """Servers of an earlier release are running that could not read what the change would write."""

    reason = "OLDER_SERVERS"


class RevocationUnsettledError(ServiceError):
    """The key is revoked, and a transaction that began before that is still open."""

    reason = "REVOCATION_UNSETTLED"

    def __init__(self, key: int) -> None:
        super().__init__(
            f"key {key} is revoked, but a transaction that began earlier is still open in the database: "
            "until it ends, it may record rewards of decisions that the key signed; find it in "
            "pg_stat_activity, end it, and revoke the key again to confirm that none is left"
        )


class OverloadedError(ServiceError):
    """Too much is waiting already; nothing was stored."""

    reason = "OVERLOADED"

    def __init__(self, what: str, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(f"{what}; nothing was stored, try again")


class StorageFullError(OverloadedError):
    """The store has no room left; nothing was stored."""

    reason = "STORAGE_FULL"


class ClockInDoubtError(ServiceError):
    """By service time it is too late, and service time may be wrong; nothing was stored."""

    reason = "CLOCK_IN_DOUBT"

    def __init__(self, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(
            "the decision seems too old, but the server's clock is in doubt; nothing was stored, try again"
        )


class StorageUnavailableError(ServiceError):
    """The store can't be reached; nothing was acknowledged."""

    reason = "STORAGE_UNAVAILABLE"
    retry_after = timedelta(seconds=1)

    def __init__(self, why: str = "the store can't be reached") -> None:
        super().__init__(f"{why}; nothing was acknowledged, try again")


class StorageUnsafeError(StorageUnavailableError):
    """The store could lose what it acknowledges, so nothing was acknowledged."""

    reason = "STORAGE_UNSAFE"
