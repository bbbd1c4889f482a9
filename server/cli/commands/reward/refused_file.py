"""The file of the rows that were refused: the rows as they were, with their numbers and the reasons."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from server.cli.commands.reward.layout import ADDED
from server.cli.framework.errors import CalledWronglyError, CommandError


class RefusedFile:
    """CSV in UTF-8, which can be imported once it was corrected; created by the first refused row.

    Args:
        path: the file, which must not exist yet.
        names: the columns of the table.
        may_append: whether a file of the same columns, from the same import, may exist.

    Attributes:
        path: the file.
        n_rows: how many rows were refused this time.

    Raises:
        CalledWronglyError: the file exists, or its folder does not.
    """

    def __init__(self, path: Path, names: Sequence[str], *, may_append: bool) -> None:
        self.path = path
        self.n_rows = 0
        self._n_columns = len(names)
        self._kept = [index for index, name in enumerate(names) if name not in ADDED]
        self._header = [names[index] for index in self._kept]
        self._file: IO[str] | None = None
        self._rows: Any = None
        if not path.parent.is_dir():
            raise CalledWronglyError(f"{path}: its folder does not exist")
        self._is_there = path.exists()
        if self._is_there and not path.is_file():
            raise CalledWronglyError(f"{path}: is no file: name another with --refused")
        if self._is_there and not (may_append and self._has_header()):
            raise CalledWronglyError(
                f"{path}: exists, with the rows that an earlier import refused: import or delete it, or name "
                "another with --refused"
            )

    def write(self, rows: Sequence[tuple[int, Sequence[object], str]]) -> None:
        """Append rows: number, cells and reason.

        Raises:
            CommandError: they can't be written.
        """
        if not rows:
            return
        try:
            if self._file is None:
                mode = "a" if self._is_there else "x"
                self._file = self.path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
                self._rows = csv.writer(self._file, lineterminator="\n")
                if not self._is_there:
                    self._rows.writerow([*self._header, *ADDED])
            for number, cells, reason in rows:
                kept = [_text(cells[index]) if index < len(cells) else "" for index in self._kept]
                beyond = cells[self._n_columns :]  # they keep the row from being imported uncorrected
                self._rows.writerow([*kept, number, reason, *map(_text, beyond)])
            self._file.flush()
        except OSError as error:
            raise CommandError(f"{self.path}: can't be written: {error.strerror}") from error
        self.n_rows += len(rows)

    def _has_header(self) -> bool:
        try:
            with self.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                return next(csv.reader(file), []) == [*self._header, *ADDED]
        except (OSError, csv.Error):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
