"""Tables in CSV and Parquet files, read some rows at a time however large the file is."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from typing_extensions import override

from server.cli.framework.errors import CalledWronglyError, CommandError

_PARQUET: Final = b"PAR1"
_FOREIGN: Final = {
    b"\x1f\x8b": "is compressed by gzip: unpack it first",
    b"PK": "is a spreadsheet or a ZIP file: save the sheet as CSV in UTF-8",
    b"\xff\xfe": "is UTF-16: save it as CSV in UTF-8",
    b"\xfe\xff": "is UTF-16: save it as CSV in UTF-8",
}
_DELIMITERS: Final = (",", ";", "\t")
_ROWS_AT_ONCE: Final = 5_000
_MOST_CHARACTERS: Final = 16 * 1024 * 1024
"""Of a cell: a column that is not read may hold whole documents."""


class Table(ABC):
    """An open table; a context manager that closes its file.

    Attributes:
        names: the columns, in order.
    """

    names: Sequence[str]

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        """Yield each row's number, as a spreadsheet counts, with its cells; once.

        Raises:
            CommandError: the file can't be read on.
        """

    @abstractmethod
    def progress(self) -> tuple[int, int]:
        """Return how much has been read, and of how much."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class CsvTable(Table):
    """CSV in UTF-8, with a header; separated by commas, semicolons or tabs, whichever the header has most of.

    Bytes that are not UTF-8 come through as they are, so that a row can be written elsewhere unchanged.

    Raises:
        CalledWronglyError: there is no header.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._n_bytes = path.stat().st_size
        self._binary = path.open("rb")
        text = io.TextIOWrapper(self._binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._text = text
        header = text.readline()
        if not header.strip():
            self.close()
            raise CalledWronglyError(f"{path}: has no header in its first line")
        delimiter = max(_DELIMITERS, key=header.count)
        self.names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
        csv.field_size_limit(_MOST_CHARACTERS)
        self._rows = csv.reader(text, delimiter=delimiter, strict=True)

    @override
    def rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        number = 1
        try:
            for number, cells in enumerate(self._rows, 2):
                if cells:
                    yield number, cells
        except (csv.Error, OSError) as error:
            raise CommandError(f"{self._path}: row {number + 1} can't be read: {error}") from error

    @override
    def progress(self) -> tuple[int, int]:
        return self._binary.tell(), self._n_bytes

    @override
    def close(self) -> None:
        self._text.close()


class ParquetTable(Table):
    """Parquet; needs pyarrow. Its first row is row 1.

    Raises:
        CalledWronglyError: pyarrow is missing, or the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError as error:
            raise CalledWronglyError(
                f"{path}: Parquet needs pyarrow: pip install 'bandit-allocator[export]', or convert it to CSV"
            ) from error
        try:
            self._file: Any = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:  # ArrowInvalid is the latter
            raise CalledWronglyError(f"{path}: is damaged: {str(error).splitlines()[0]}") from error
        self.names = list(self._file.schema_arrow.names)
        self._n_read = 0

    @override
    def rows(self) -> Iterator[tuple[int, Sequence[object]]]:
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE):
                columns = [_cells(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    self._n_read += 1
                    yield self._n_read, cells
        except (OSError, ValueError) as error:
            problem = str(error).splitlines()[0]
            raise CommandError(f"{self._path}: row {self._n_read + 1} can't be read: {problem}") from error

    @override
    def progress(self) -> tuple[int, int]:
        return self._n_read, int(self._file.metadata.num_rows)

    @override
    def close(self) -> None:
        with suppress(OSError):
            self._file.close()


def _cells(column: Any) -> list[object]:
    """Return a column's cells; as text that is no number if Python lacks a value, as of the year 146108."""
    try:
        cells: list[object] = column.to_pylist()
    except (ArithmeticError, ValueError, LookupError):
        return [f"{cell.type} {getattr(cell, 'value', '')}" if cell.is_valid else None for cell in column]
    # Some writers of Parquet do not mark text as such.
    return [cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else cell for cell in cells]


def open_table(path: Path) -> Table:
    """Open a file, whose first bytes tell its format.

    Raises:
        CalledWronglyError: it can't be read as a table.
    """
    try:
        if not path.is_file() and path.exists():
            raise CalledWronglyError(f"{path}: is a folder or a pipe, and no file")
        with path.open("rb") as file:
            start = file.read(4)
        for magic, problem in _FOREIGN.items():
            if start.startswith(magic):
                raise CalledWronglyError(f"{path}: {problem}")
        return ParquetTable(path) if start == _PARQUET else CsvTable(path)
    except OSError as error:
        raise CalledWronglyError(f"{path}: {(error.strerror or str(error)).lower()}") from error
