"""The reading of messages into values, with every violation collected."""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from bandit.policies import DeclaredPolicy
from bandit.posteriors.priors import Prior
from bandit.validation import Violation
from server.services.errors import InvalidInputError

_Built = TypeVar("_Built")
_Kind = TypeVar("_Kind", DeclaredPolicy, Prior)


class Reader:
    """Turns messages into values, and collects every violation instead of stopping at the first."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def build(self, field: str, make: Callable[[], _Built], otherwise: _Built) -> _Built:
        """Return the result of `make`; on ValueError, note a violation of `field` and return `otherwise`."""
        try:
            return make()
        except ValueError as error:
            self.violations.append(Violation(field, str(error)))
            return otherwise

    def enum(self, field: str, number: int, known: Mapping[int, _Built], rule: str) -> _Built:
        """Return the value of a number; for an unknown one, note `rule` and return any value."""
        found = known.get(number)
        if found is None:
            self.violations.append(Violation(field, rule))
            return next(iter(known.values()))
        return found

    def kind(self, field: str, message: Message, kinds: Mapping[str, type[_Kind]]) -> _Kind | None:
        """Return the policy or prior in a message; None, with a violation, if its kind is unknown."""
        name = message.WhichOneof("kind")
        if name not in kinds:
            self.violations.append(Violation(field, f"must be one of {', '.join(kinds)}"))
            return None
        kind, settings = kinds[name], getattr(message, name)
        return self.build(f"{field}.{name}", lambda: kind(**settings_of(kind, settings)), None)

    def duration(self, field: str, message: Message, name: str) -> timedelta | None:
        """Return the duration in a field of `message`; None if it is not set."""
        if not message.HasField(name):
            return None
        duration: Duration = getattr(message, name)
        try:
            return duration.ToTimedelta()
        except (ValueError, OverflowError):
            self.violations.append(Violation(field, "is not a valid duration"))
            return None

    def require_valid(self) -> None:
        """Raise InvalidInputError if there are violations."""
        if self.violations:
            raise InvalidInputError(self.violations)


def settings_of(kind: type[DeclaredPolicy | Prior], message: Message) -> dict[str, Any]:
    """Return the fields of a policy or prior; 0 stands for None where that is the default."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = getattr(message, field.name)
        if field.default is None:
            value = value or None
        settings[field.name] = dict(value) if isinstance(value, Mapping) else value
    return settings
