"""The target of an export: a directory of tables, or one file with one table."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.services.exports.errors import ExportError
from server.services.exports.tables import TableName


class FileFormat(enum.StrEnum):
    """The format of the files."""

    PARQUET = "parquet"
    CSV = "csv"


_SUFFIXES: Final = {f".{known}": known for known in FileFormat}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The files of one export.

    Attributes:
        file_format: Their format.
        paths: The file of each requested table; in a directory, named after the table.
        manifest: The file that describes the others; None with a single file.
    """

    file_format: FileFormat
    paths: Mapping[TableName, Path]
    manifest: Path | None

    @property
    def every_path(self) -> Sequence[Path]:
        """All files, in the order in which they appear."""
        return [*self.paths.values(), *([] if self.manifest is None else [self.manifest])]


def plan_target(path: Path, file_format: FileFormat | None, tables: Sequence[TableName]) -> Target:
    """Return the files of an export to `path`: one table if it has a format's suffix, otherwise a directory.

    Args:
        path: A file ending in .parquet or .csv, or a directory that exists or will be created.
        file_format: None for the format of the file's suffix, or Parquet in a directory.
        tables: The requested tables; if empty, the facts for a file, all for a directory.

    Raises:
        ExportError: Several tables for one file, or the suffix of another format.
    """
    ending = _SUFFIXES.get(path.suffix.lower())
    if ending is None or path.is_dir():
        chosen = file_format or FileFormat.PARQUET
        requested = [table for table in TableName if table in tables or not tables]
        paths = {table: path / f"{table}.{chosen}" for table in requested}
        return Target(file_format=chosen, paths=paths, manifest=path / "manifest.json")
    if file_format not in {None, ending}:
        raise ExportError(f"{path} has the suffix of {ending}, but --format is {file_format}")
    if len(set(tables)) > 1:
        raise ExportError(f"{path} is one file and holds one table: name a directory for {', '.join(tables)}")
    return Target(file_format=ending, paths={(*tables, TableName.FACTS)[0]: path}, manifest=None)
