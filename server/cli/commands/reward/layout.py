"""What the columns of a table of rewards mean, and the reward of a row."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Final

from typing_extensions import override

from bandit.client import Reward

WANTED: Final = (
    "wanted are decision_id, metric, value and perhaps revision, a row for each outcome; or decision_id, "
    "perhaps revision, and a column for each metric"
)
ADDED: Final = ("refused_row", "refused_reason")
"""Columns of a file of refused rows, left out when that is imported."""

_DECISION: Final = "decision_id"
_REVISION: Final = "revision"
_MEANINGFUL: Final = frozenset({_DECISION, _REVISION, "metric", "value"})
_MOST_REVISION: Final = 2**32 - 1
_TRUTHS: Final = {"true": 1.0, "false": 0.0}
_LONGEST: Final = 40


class LayoutError(ValueError):
    """The columns are no table of rewards; the text says why."""


class RowError(ValueError):
    """A row is no reward; the text says why."""


class Layout(ABC):
    """The columns of a table of rewards.

    Attributes:
        ignored: the columns that nothing is read from.
    """

    def __init__(self, n_columns: int, decision: int, revision: int | None, ignored: Sequence[str]) -> None:
        self.ignored = ignored
        self._n_columns = n_columns
        self._decision = decision
        self._revision = revision

    def reward(self, cells: Sequence[object]) -> Reward:
        """Return the reward of a row; its decision id, or its outcomes, may be empty.

        Raises:
            RowError: the row is none.
        """
        if len(cells) > self._n_columns:
            raise RowError(f"the row has {len(cells)} cells and the header {self._n_columns}")
        padded = [*cells, *[None] * (self._n_columns - len(cells))]
        decision = padded[self._decision]
        revision = 0 if self._revision is None else _revision(padded[self._revision])
        return Reward("" if decision is None else str(decision).strip(), self._outcomes(padded), revision)

    @abstractmethod
    def _outcomes(self, cells: Sequence[object]) -> Mapping[str, float]:
        """Return the outcomes of a row."""


class LongLayout(Layout):
    """A row for each outcome."""

    def __init__(
        self,
        n_columns: int,
        decision: int,
        revision: int | None,
        ignored: Sequence[str],
        *,
        metric: int,
        value: int,
    ) -> None:
        super().__init__(n_columns, decision, revision, ignored)
        self._metric = metric
        self._value = value

    @override
    def _outcomes(self, cells: Sequence[object]) -> Mapping[str, float]:
        value = _number(cells[self._value], "value")
        if value is None:
            return {}
        metric = cells[self._metric]
        if metric is None or not str(metric).strip():
            raise RowError("the row names no metric")
        return {str(metric).strip(): value}


class WideLayout(Layout):
    """A row for each decision, and a column for each metric."""

    def __init__(
        self,
        n_columns: int,
        decision: int,
        revision: int | None,
        ignored: Sequence[str],
        *,
        metrics: Mapping[int, str],
    ) -> None:
        super().__init__(n_columns, decision, revision, ignored)
        self._metrics = metrics

    @override
    def _outcomes(self, cells: Sequence[object]) -> Mapping[str, float]:
        values = ((metric, _number(cells[index], metric)) for index, metric in self._metrics.items())
        return {metric: value for metric, value in values if value is not None}


def recognise(names: Sequence[str], chosen: Sequence[str]) -> Layout:
    """Return the layout of a table with these columns.

    Args:
        names: the columns. Those that are no metric are found in upper case, too.
        chosen: the columns that are metrics; if there are none, every column that means nothing else.

    Raises:
        LayoutError: they are no table of rewards.
    """
    found = f"the columns are {_listed(names)}; {WANTED}"
    meanings = [name.lower() if name.lower() in _MEANINGFUL else name for name in names]
    twice = [name for name, count in Counter(meanings).items() if count > 1]
    if twice:
        raise LayoutError(f"the column {twice[0]!r} is there twice: rename or remove one")
    places = {name.lower(): index for index, name in enumerate(names)}
    if _DECISION not in places:
        if "decision" in places:
            raise LayoutError(
                "there is no column decision_id: the column decision of an export holds ids without their "
                "signature, which can't be posted; join the decision_id that Choose returned"
            )
        raise LayoutError(f"there is no column decision_id: {found}")
    revision = places.get(_REVISION)
    taken = {places[_DECISION], revision}
    if chosen:
        return _wide(names, places[_DECISION], revision, chosen)
    if "metric" in places and "value" in places:
        taken |= {places["metric"], places["value"]}
        return LongLayout(
            len(names),
            places[_DECISION],
            revision,
            _others(names, taken),
            metric=places["metric"],
            value=places["value"],
        )
    if "metric" in places or "value" in places:
        raise LayoutError(f"of metric and value only one is there, without --metric: {found}")
    metrics = _others(names, taken)
    if not metrics:
        raise LayoutError(f"there is no metric: {found}")
    if "" in metrics:
        raise LayoutError("a column has no name: name it or remove it, or choose others with --metric")
    return _wide(names, places[_DECISION], revision, metrics)


def _wide(names: Sequence[str], decision: int, revision: int | None, metrics: Sequence[str]) -> Layout:
    missing = [metric for metric in metrics if metric not in names]
    if missing:
        raise LayoutError(f"--metric: no column is named {missing[0]!r}; there are {_listed(names)}")
    places = {index: name for index, name in enumerate(names) if name in metrics}
    if decision in places or revision in places:
        raise LayoutError("--metric: decision_id and revision are no metrics: name the columns of values")
    ignored = _others(names, {decision, revision, *places})
    return WideLayout(len(names), decision, revision, ignored, metrics=places)


def _others(names: Sequence[str], taken: AbstractSet[int | None]) -> list[str]:
    """Return the columns that are not taken, but for those of a file of refused rows."""
    return [name for index, name in enumerate(names) if index not in taken and name not in ADDED]


def _listed(names: Sequence[str]) -> str:
    shown = [_shown(name) for name in names[:12]]
    return ", ".join([*shown, f"and {len(names) - 12} more"] if len(names) > 12 else shown)  # noqa: PLR2004


def _number(cell: object, name: str) -> float | None:
    """Return a cell's value; None if it is empty."""
    match cell:
        case None:
            return None
        case str():
            text = cell.strip()
            if not text:
                return None
            value = _TRUTHS.get(text.lower())
            value = _parse(text, name) if value is None else value
        case bool() | int() | float() | Decimal():
            value = _convert(cell, name)
        case _:
            raise RowError(f"{name} is {_shown(cell)}, which is not a number")
    if not math.isfinite(value):
        raise RowError(f"{name} is {_shown(cell)}, which is not a finite number")
    return value


def _parse(text: str, name: str) -> float:
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    hint = ": write a decimal point" if text.count(",") == 1 and "." not in text else ""
    raise RowError(f"{name} is {_shown(text)}, which is not a number{hint}")


def _convert(cell: float | Decimal, name: str) -> float:
    try:
        return float(cell)
    except OverflowError:
        raise RowError(f"{name} is {_shown(cell)}, which is too large") from None


def _revision(cell: object) -> int:
    value = _number(cell, _REVISION)
    if value is None:
        return 0
    if not (value.is_integer() and 0 <= value <= _MOST_REVISION):
        raise RowError(f"revision is {_shown(cell)}; it must be a whole number from 0 to {_MOST_REVISION:,}")
    return int(value)


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
