"""Quotas: how much may be declared."""

from dataclasses import dataclass
from typing import Final

from server.services.errors import QuotaReachedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Limits on declarations; None for no limit.

    Attributes:
        experiments: Experiments in a namespace; those without one count as a namespace.
        arms: Arms in an experiment.
    """

    experiments: int | None = None
    arms: int | None = None

    def require_arms(self, n_arms: int, *, n_before: int = 0) -> None:
        """Raise QuotaReachedError if there would be more arms than before, and more than allowed."""
        if self.arms is not None and n_arms > max(self.arms, n_before):
            raise QuotaReachedError.of_arms(n_arms, self.arms)


NO_QUOTAS: Final = Quotas()
