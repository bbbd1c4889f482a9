"""Multiple testing: Holm's step-down on p-values, e-BH and means of e-values.

`holm` and `e_bh` take mappings, so that a hypothesis keeps its name.
"""

from collections.abc import Mapping, Sequence
from math import log
from typing import TypeVar

import numpy as np

from bandit.inference.sequential.results import EProcess

Name = TypeVar("Name")


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Return Holm's (1979) adjusted p-values: rejecting those up to alpha has family-wise error alpha.

    Anytime-valid p-values stay anytime-valid, since each bounds its own error at any look.

    Raises:
        ValueError: a p-value is not in [0, 1].

    >>> holm({"b": 0.01, "c": 0.04, "d": 0.03})
    {'b': 0.03, 'd': 0.06, 'c': 0.06}
    """
    if not all(0 <= p_value <= 1 for p_value in p_values.values()):
        raise ValueError("p-values must be in [0, 1]")
    adjusted, largest = dict[Name, float](), 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = largest
    return adjusted


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


def mean_process(processes: Sequence[EProcess]) -> EProcess:
    """Return the mean of e-processes of one hypothesis: an e-process, whatever their dependence.

    Raises:
        ValueError: there is no process, or they are not over the same rows.
    """
    if len({len(process.log_values) for process in processes}) != 1:
        raise ValueError("at least one process is needed, and all must be over the same epochs")
    logs = np.array([process.log_values for process in processes])
    highest = logs.max(axis=0)
    return EProcess.of(np.log(np.exp(logs - highest).mean(axis=0)) + highest)
