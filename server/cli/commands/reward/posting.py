"""The rows of a table, posted some at a time, each until the server has answered it."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc

from bandit.client import AccessError, BanditClient, CallError, Reward, RewardResult
from bandit.client.outbox.posting import (
    MOST_BYTES,
    Answer,
    estimate_bytes,
    find_common_failure,
    is_refusal,
    post,
)
from server.cli.commands.reward.layout import Layout, RowError
from server.cli.commands.reward.refused_file import RefusedFile
from server.cli.commands.reward.table import Table

_MOST_ROWS: Final = 1_000
_FIRST_BACKOFF: Final = 0.1
_LONGEST_BACKOFF: Final = 5.0


@dataclass(slots=True)
class Row:
    """A row of the file.

    Attributes:
        number: as a spreadsheet counts.
        cells: as they are in the file.
        reward: what is posted; None if it is no reward.
        problem: why it is refused; empty if it is not.
    """

    number: int
    cells: Sequence[object]
    reward: Reward | None = None
    problem: str = ""


@dataclass(slots=True)
class Tally:
    """What became of the rows so far.

    Attributes:
        last_row: the last row that was dealt with, with all before it.
        n_rows: how many rows there were.
        n_fallbacks: rows without a decision id: a fallback served.
        n_empty: rows without a value.
        results: outcomes by what became of them.
    """

    last_row: int = 0
    n_rows: int = 0
    n_fallbacks: int = 0
    n_empty: int = 0
    results: Counter[str] = field(default_factory=Counter)


class Importer:
    """Posts the rows of a table.

    Args:
        client: posts them.
        layout: of the table.
        refused: gets what is refused.
        tally: gets what became of the rows.
        wait: how long to wait for a server that takes nothing, in seconds.
        on_wait: called with the reason when it begins to wait.
    """

    def __init__(
        self,
        client: BanditClient,
        layout: Layout,
        refused: RefusedFile,
        tally: Tally,
        *,
        wait: float,
        on_wait: Callable[[CallError], None],
    ) -> None:
        self._tally = tally
        self._on_wait = on_wait
        self._client = client
        self._layout = layout
        self._refused = refused
        self._wait = wait

    def post_all(self, table: Table, first: int, progress: Callable[[int, int], None]) -> None:
        """Post the rows from number `first` on.

        Raises:
            CallError: the server takes nothing, or not from this caller.
            CommandError: the table can't be read on, or the file of refused rows not be written.
        """
        for rows in self._chunks(table, first):
            self._post(rows)
            self._refused.write([(row.number, row.cells, row.problem) for row in rows if row.problem])
            self._tally.n_rows += len(rows)
            self._tally.last_row = rows[-1].number
            progress(*table.progress())

    def _chunks(self, table: Table, first: int) -> Iterator[list[Row]]:
        """Yield rows in lists, each of which fits into one call."""
        rows: list[Row] = []
        n_bytes = 0
        for number, cells in table.rows():
            if number < first:
                continue
            row = self._read(number, cells)
            size = estimate_bytes(row.reward) if row.reward is not None else 0
            if rows and (len(rows) == _MOST_ROWS or n_bytes + size > MOST_BYTES):
                yield rows
                rows, n_bytes = [], 0
            rows.append(row)
            n_bytes += size
        if rows:
            yield rows

    def _read(self, number: int, cells: Sequence[object]) -> Row:
        try:
            reward = self._layout.reward(cells)
        except RowError as error:
            return Row(number, cells, problem=str(error))
        if not reward.outcomes:
            self._tally.n_empty += 1
            return Row(number, cells)
        if not reward.decision:
            self._tally.n_fallbacks += 1
            return Row(number, cells)
        return Row(number, cells, reward)

    def _post(self, rows: Sequence[Row]) -> None:
        """Post rows until each is answered."""
        waiting = [row for row in rows if row.reward is not None]
        results: Counter[str] = Counter()
        backoff = _FIRST_BACKOFF
        give_up_at = time.monotonic() + self._wait
        while waiting:
            answers = post(self._client, [row.reward for row in waiting if row.reward is not None])
            _require_service(answers)
            left = [
                row for row, answer in zip(waiting, answers, strict=True) if not _take(row, answer, results)
            ]
            if len(left) < len(waiting):
                backoff, give_up_at = _FIRST_BACKOFF, time.monotonic() + self._wait
            waiting = left
            if waiting:
                trouble = _longest_wait(answers)
                delay = trouble.asked_seconds + random.uniform(0.0, backoff)  # noqa: S311 - jitter
                if time.monotonic() + delay > give_up_at:
                    raise trouble
                if backoff == _FIRST_BACKOFF and not _is_pacing(trouble):
                    self._on_wait(trouble)
                time.sleep(delay)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)
        self._tally.results += results


def _take(row: Row, answer: Answer, results: Counter[str]) -> bool:
    """Take the answer to a row; False if it must be posted again."""
    if isinstance(answer, RewardResult):
        results.update(str(each) for each in answer.metric_to_result.values())
        return True
    if answer.is_retryable:
        return False
    details = "; ".join(f"{each.field}: {each.description}" for each in answer.field_violations)
    row.problem = f"{answer.reason or answer.code.name}: {details or answer.message}"
    return True


def _require_service(answers: Sequence[Answer]) -> None:
    """Raise the error of a call that no row is to blame for, and that no waiting mends."""
    failure = find_common_failure(answers)
    if failure is None or failure.is_retryable or is_refusal(failure):
        return
    is_of_the_row = len(answers) == 1 and failure.code is grpc.StatusCode.PERMISSION_DENIED
    if not (isinstance(failure, AccessError) and is_of_the_row):
        raise failure


def _longest_wait(answers: Sequence[Answer]) -> CallError:
    """Return the error that may pass and asks for the longest wait."""
    errors = [answer for answer in answers if isinstance(answer, CallError) and answer.is_retryable]
    return max(errors, key=lambda error: error.asked_seconds)


def _is_pacing(error: CallError) -> bool:
    """True if the server merely asks to go slower, which is no news."""
    return error.reason in {"RATE_LIMITED", "OVERLOADED"}
