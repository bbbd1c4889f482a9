"""The table from errors to statuses: it is complete, and keeps what clients are promised."""

from collections.abc import Iterator
from datetime import timedelta

import grpc
import pytest

from bandit.validation import Violation
from server.rpc.messages.status import CODES, Failure
from server.services import errors

RETRYABLE = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
EXAMPLES = [
    errors.InvalidInputError.of("unit", "is none"),
    errors.DecisionIdInvalidError(),
    errors.PermissionDeniedError(),
    errors.ExperimentNotFoundError("x"),
    errors.ExperimentNotStartedError("x"),
    errors.TransitionRefusedError("x", "draft", "paused"),
    errors.QuotaReachedError.of_experiments("team", 3),
    errors.NoLaunchError("x", is_declared=True),
    errors.LaunchRefusedError("x", "arm 'b': it is waiting"),
    errors.LaunchMovedError("b", 3, 2),
    errors.DecisionExpiredError(["click"]),
    errors.DecisionSealedError(),
    errors.OutcomeConflictError(["click"]),
    errors.ExperimentExistsError("x"),
    errors.ExperimentChangedError("x"),
    errors.RotationRefusedError("too soon"),
    errors.RevocationRefusedError("it signs"),
    errors.RevocationUnsettledError(1),
    errors.ServerOutdatedError("a newer release is in service"),
    errors.OlderServersError("older servers are live"),
    errors.OverloadedError("too much waits", timedelta(milliseconds=200)),
    errors.StorageFullError("no room", timedelta(seconds=1)),
    errors.ClockInDoubtError(timedelta(seconds=30)),
    errors.StorageUnavailableError(),
    errors.StorageUnsafeError("fsync is off"),
]


def tree(root: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    """Yield every subclass of a class."""
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


def test_every_error_has_a_code() -> None:
    """The table has exactly the tree of service errors."""
    assert set(CODES) == set(tree(errors.ServiceError))


def test_every_error_has_an_example_here() -> None:
    """Every error has an example, so that the tests below cover all of them."""
    assert {type(example) for example in EXAMPLES} == set(CODES)


def test_reasons_are_stable_words() -> None:
    """Reasons are in capitals, differ for each error, and differ from the base class's."""
    reasons = [kind.reason for kind in CODES]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.replace("_", "").isupper() and reason != "UNKNOWN" for reason in reasons)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_temporary_errors_have_a_retry_delay(error: errors.ServiceError) -> None:
    """RESOURCE_EXHAUSTED and UNAVAILABLE carry a delay; no other error does."""
    failure = Failure.of(error)
    assert (failure.retry_after is not None) == (failure.code in RETRYABLE)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_input_errors_have_violations(error: errors.ServiceError) -> None:
    """INVALID_ARGUMENT carries violations; no other error does."""
    failure = Failure.of(error)
    assert bool(failure.violations) == (failure.code is grpc.StatusCode.INVALID_ARGUMENT)


def test_a_status_in_a_batch_is_that_of_a_call() -> None:
    """Code, text, reason, violations and delay are the same in a batch and in a call."""
    for error in EXAMPLES:
        failure = Failure.of(error)
        status = failure.status
        assert (status.code, status.message, status.reason) == (
            failure.code.value[0],
            failure.message,
            failure.reason,
        )
        assert status.HasField("retry_delay") == (failure.retry_after is not None)
        assert [(v.field, v.description) for v in status.field_violations] == list(failure.violations)


@pytest.mark.parametrize("n_violations", [1, 10, 5_000])
def test_a_failure_fits_into_a_trailer(n_violations: int) -> None:
    """Text and details stay below the 8 KiB limit of gRPC clients, however many rules are broken."""
    violations = [Violation(f"arms[{number}].id", "\x1b" + "x" * 120) for number in range(n_violations)]
    failure = Failure.of(errors.InvalidInputError(violations))
    n_bytes = sum(
        len(value) * (4 / 3 if key.endswith("-bin") else 1) for key, value in failure.trailing_metadata
    )
    assert n_bytes + len(failure.message) < 8 * 1024
    assert min(n_violations, 10) <= len(failure.violations) < 20
    assert failure.message.isprintable()
