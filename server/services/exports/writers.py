"""Table writers: CSV, which needs nothing, and Parquet, which needs pyarrow."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import IO, Any, Final

from typing_extensions import override

from server.services.exports.errors import ExportError
from server.services.exports.tables import Column, Kind, Row
from server.services.exports.targets import FileFormat

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TableWriter(ABC):
    """Writes one table into an open file, some rows at a time."""

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Append rows, each with a value for every column."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered rows; the file stays open."""


class CsvWriter(TableWriter):
    """CSV in UTF-8 with a header: numbers in full, true and false, ISO 8601, None as an empty field.

    Args:
        file: The output.
        columns: The table's columns.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._formats = {
            number: _CSV_FORMATS[column.kind]
            for number, column in enumerate(columns)
            if column.kind in _CSV_FORMATS
        }
        self._rows.writerow([column.name for column in columns])

    @override
    def write(self, rows: Sequence[Row]) -> None:
        self._rows.writerows(map(self._formatted, rows))

    @override
    def close(self) -> None:
        self._text.detach()

    def _formatted(self, row: Row) -> list[object]:
        cells: list[object] = list(row)
        for number, shown in self._formats.items():
            if cells[number] is not None:
                cells[number] = shown(cells[number])
        return cells


def _iso(micros: Any) -> str:
    """Format an instant with its microseconds, so that all values of a column look alike.

    >>> _iso(1_000_000)
    '1970-01-01T00:00:01.000000+00:00'
    """
    return (_START + timedelta(microseconds=micros)).isoformat(timespec="microseconds")


_CSV_FORMATS: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.BOOLEAN: lambda value: "true" if value else "false",
    Kind.INSTANT: _iso,
}


class ParquetWriter(TableWriter):
    """Parquet, compressed with zstd, with a row group for each call of `write` and described columns.

    Args:
        file: The output.
        columns: The table's columns.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._arrow: Any = import_module("pyarrow")
        kinds = {
            Kind.TEXT: self._arrow.string(),
            Kind.INTEGER: self._arrow.int64(),
            Kind.NUMBER: self._arrow.float64(),
            Kind.BOOLEAN: self._arrow.bool_(),
            Kind.INSTANT: self._arrow.timestamp("us", tz="UTC"),
        }
        self._schema = self._arrow.schema(
            [
                self._arrow.field(column.name, kinds[column.kind], metadata={"description": column.meaning})
                for column in columns
            ]
        )
        self._file: Any = import_module("pyarrow.parquet").ParquetWriter(
            file, self._schema, compression="zstd"
        )

    @override
    def write(self, rows: Sequence[Row]) -> None:
        arrays = [
            self._arrow.array(values, type=field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_batch(self._arrow.record_batch(arrays, schema=self._schema))

    @override
    def close(self) -> None:
        self._file.close()


_WRITERS: Final = {FileFormat.CSV: CsvWriter, FileFormat.PARQUET: ParquetWriter}


def open_writer(file_format: FileFormat, file: IO[bytes], columns: Sequence[Column]) -> TableWriter:
    """Return a writer of this format."""
    return _WRITERS[file_format](file, columns)


def require_format(file_format: FileFormat) -> None:
    """Raise ExportError if files of this format can't be written here."""
    if file_format is FileFormat.PARQUET:
        try:
            import_module("pyarrow.parquet")
        except ImportError as error:
            raise ExportError(
                "Parquet needs pyarrow: pip install 'bandit-allocator[export]', "
                f"or export with --format csv ({error})"
            ) from error


def write_json(file: IO[bytes], document: object) -> None:
    """Write a document as indented JSON."""
    file.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
