"""The audit: who did what, and when."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final

ANYONE: Final = "anyone"
"""The caller where callers need not say who they are."""


class Action(enum.StrEnum):
    """What a caller did."""

    CREATE = "create"
    UPDATE = "update"
    START = "start"
    PAUSE = "pause"
    CONCLUDE = "conclude"
    DELETE = "delete"
    ROTATE_KEY = "rotate_key"
    REVOKE_KEY = "revoke_key"
    ACCEPT_CLOCK = "accept_clock"
    REPAIR_CLOCK = "repair_clock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A change, and who made it.

    Attributes:
        number: A later change has a higher one.
        at: When it was made.
        caller: Who made it.
        action: What was done.
        experiment: The experiment's name; None for a change of no experiment.
        before: A JSON object: what stood before; None if there was nothing.
        after: A JSON object: what stands since; None if it is gone.
    """

    number: int
    at: datetime
    caller: str
    action: str
    experiment: str | None
    before: str | None
    after: str | None
