"""The keys that sign decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that sign decisions.

    Attributes:
        secrets: Key id, in [0, 256), to secret.
        signing_key: The id of the newest key, which signs new decisions once its time has come.
        signs_at: Key id to when it begins to sign, and the key before it ends; a key that never took turns
            has no entry.
    """

    secrets: Mapping[int, bytes]
    signing_key: int
    signs_at: Mapping[int, datetime] = field(default_factory=dict)

    def signing_key_at(self, now: datetime) -> int:
        """The id of the key that signs at an instant."""
        begun = {key: at for key, at in self.signs_at.items() if at <= now}
        return max(begun, key=lambda key: begun[key]) if begun else self.signing_key

    def signed_until(self, key: int) -> datetime | None:
        """When the key after this one begins to sign; None if there is none yet, or it never took turns."""
        mine = self.signs_at.get(key)
        return None if mine is None else min((at for at in self.signs_at.values() if at > mine), default=None)

    def __repr__(self) -> str:
        return f"KeyRing(keys={sorted(self.secrets)}, signing_key={self.signing_key})"
