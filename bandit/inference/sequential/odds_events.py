"""Events of two arms by epoch, and the ratios of their rates that they refute.

The searches for a thousand challengers run together: an evaluation is one pass over the events of all
challengers whose search is not over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from bandit.inference.data.table import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events of two arms by epoch, over the epochs in which both have a share.

    Attributes:
        odds: Challenger's share over the champion's, shape (n_epochs,); 1 where the epoch does not count.
        challenger: Events of the challenger, shape (n_epochs,).
        champion: Events of the champion, shape (n_epochs,).
    """

    odds: FloatArray
    challenger: FloatArray
    champion: FloatArray

    @property
    def n(self) -> int:
        """Number of events of both arms."""
        return int(self.challenger.sum() + self.champion.sum())

    @property
    def occurred(self) -> "Events":
        """The same without epochs in which neither arm had an event, which do not bear on the ratio."""
        has_any = self.challenger + self.champion > 0
        return Events(
            odds=self.odds[has_any], challenger=self.challenger[has_any], champion=self.champion[has_any]
        )


def log_mixture(logs: FloatArray) -> FloatArray:
    """Return ln of the mean over the grid, the last axis."""
    highest = logs.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - highest).mean(axis=-1)) + highest[..., 0])


def furthest_refuted(
    pairs: Sequence[Events], grid: Sequence[float], alpha: float, sign: float
) -> list[float | None]:
    """Return, for each pair, the refuted log ratio nearest the data; None if its events refute no ratio.

    The e-value is monotone in the ratio, since p_(r g) / p_r is for every event.

    Args:
        pairs: Events, at least one per pair.
        grid: Ratios mixed over.
        alpha: The error rate.
        sign: 1 to look upwards from a ratio of nearly 0, -1 to look downwards.
    """
    return [
        None if np.isnan(end) else end
        for part in _portions([events.occurred for events in pairs])
        for end in _search(_Joined.of(part), grid, alpha, sign).tolist()
    ]


def _search(joined: "_Joined", grid: Sequence[float], alpha: float, sign: float) -> FloatArray:
    def surplus(log_ratios: FloatArray, pairs: NDArray[np.intp]) -> FloatArray:
        return joined.log_e_values(grid, log_ratios, pairs) + log(alpha)

    reach = np.full(len(joined.lengths), sign * _LOG_REACH)
    return last_refuted(surplus, -reach, reach)


def last_refuted(
    surplus: Callable[[FloatArray, NDArray[np.intp]], FloatArray], refuted: FloatArray, unknown: FloatArray
) -> FloatArray:
    """Return where monotone functions fall below 0, between two ends each; there they are still 0 or more.

    The Illinois variant of false position (Dowell & Jarratt 1971), with every third step a bisection: about
    half as many evaluations as bisection alone.

    Args:
        surplus: Returns the functions of the given indices at as many places.
        refuted: The ends at which functions should be 0 or more; the result is NaN for one that is not.
        unknown: The other ends; the result itself for a function that is still 0 or more there.
    """
    all_indices = np.arange(len(refuted))
    height, depth = surplus(refuted, all_indices), surplus(unknown, all_indices)
    found = np.where(height < 0, np.nan, np.where(depth >= 0, unknown, refuted))
    going = np.flatnonzero((height >= 0) & (depth < 0))
    refuted, unknown, height, depth = (each[going] for each in (refuted, unknown, height, depth))
    for step in range(_MOST_STEPS):
        is_open = np.abs(unknown - refuted) >= _CLOSE_ENOUGH
        going = going[is_open]
        refuted, unknown, height, depth = (each[is_open] for each in (refuted, unknown, height, depth))
        if not len(going):
            break
        part = 0.5 if step % 3 == 0 else np.clip(height / (height - depth), _EDGE, 1 - _EDGE)
        middle = refuted + part * (unknown - refuted)
        value = surplus(middle, going)
        is_refuted = value >= 0
        refuted, unknown = np.where(is_refuted, middle, refuted), np.where(is_refuted, unknown, middle)
        height, depth = (
            np.where(is_refuted, value, height / 2),
            np.where(is_refuted, depth / 2, value),
        )
        found[going] = refuted
    return np.asarray(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Joined:
    """Events of several pairs, concatenated.

    Attributes:
        odds: Challenger's share over the champion's, shape (n_rows,).
        both: Events of both arms, shape (n_rows,).
        lengths: Number of rows of each pair, shape (n_pairs,).
        challenger: Events of each challenger over all its rows, shape (n_pairs,).
    """

    odds: FloatArray
    both: FloatArray
    lengths: NDArray[np.intp]
    challenger: FloatArray

    @classmethod
    def of(cls, pairs: Sequence[Events]) -> "_Joined":
        return cls(
            odds=np.concatenate([events.odds for events in pairs]),
            both=np.concatenate([events.challenger + events.champion for events in pairs]),
            lengths=np.array([len(events.odds) for events in pairs], dtype=np.intp),
            challenger=np.array([events.challenger.sum() for events in pairs]),
        )

    def log_e_values(
        self, grid: Sequence[float], log_ratios: FloatArray, pairs: NDArray[np.intp]
    ) -> FloatArray:
        """Return ln E of these pairs, each against its own ratio."""
        is_selected = np.zeros(len(self.lengths), dtype=bool)
        is_selected[pairs] = True
        rows, lengths = np.repeat(is_selected, self.lengths), self.lengths[pairs]
        odds, both = self.odds[rows] * np.repeat(np.exp(log_ratios), lengths), self.both[rows]
        weights = odds / (1 + odds)
        starts = np.cumsum(lengths) - lengths
        logs = np.empty((len(pairs), len(grid)))
        for column, step in enumerate(grid):
            # 1 - pi + pi r is (1 + odds r) / (1 + odds): the second factor cancels between the two ratios.
            surprise = np.add.reduceat(both * np.log1p(weights * (step - 1)), starts)
            logs[:, column] = self.challenger[pairs] * log(step) - surprise
        return log_mixture(logs)


def _portions(pairs: Sequence[Events]) -> list[list[Events]]:
    """Split the pairs into portions that stay in the processor's cache."""
    portions: list[list[Events]] = []
    room = 0
    for events in pairs:
        if len(events.odds) > room or not portions:
            portions.append([])
            room = _MOST_ROWS
        portions[-1].append(events)
        room -= len(events.odds)
    return portions


_MOST_ROWS = 32_768
_LOG_REACH = log(1e9)
_MOST_STEPS = 200
_CLOSE_ENOUGH = 1e-7
_EDGE = 1e-3
