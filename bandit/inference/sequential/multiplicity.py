"""Multiple testing of many e-values: e-BH. A mapping keeps a hypothesis's name."""

from collections.abc import Mapping
from math import log
from typing import TypeVar

Name = TypeVar("Name")


def e_bh(log_e_values: Mapping[Name, float], alpha: float = 0.05) -> frozenset[Name]:
    """Return the hypotheses that e-BH rejects at false discovery rate `alpha`, under any dependence.

    The k largest are rejected, for the largest k with ``e_(k) >= n / (alpha k)`` (Wang & Ramdas 2022). Pass
    current values, not maxima: a maximum over time is not an e-value.
    """
    ranked = sorted(log_e_values.items(), key=lambda item: -item[1])
    passing = [
        rank for rank, (_, value) in enumerate(ranked, 1) if value >= log(len(ranked)) - log(alpha * rank)
    ]
    return frozenset(name for name, _ in ranked[: max(passing, default=0)])
