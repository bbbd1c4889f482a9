"""Where an export goes: a directory of tables, or one file of one table."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from server.services.exports.errors import ExportError
from server.services.exports.tables import TableName


class FileFormat(enum.StrEnum):
    """What the files are."""

    PARQUET = "parquet"
    CSV = "csv"


_SUFFIXES: Final = {f".{known}": known for known in FileFormat}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The files of one export.

    Attributes:
        file_format: What they are.
        paths: The file of each table that is asked for; in a directory named after the table.
        manifest: The file that says what the others are; None beside a single file.
    """

    file_format: FileFormat
    paths: Mapping[TableName, Path]
    manifest: Path | None

    @property
    def every_path(self) -> Sequence[Path]:
        """All files, in the order in which they appear."""
        return [*self.paths.values(), *([] if self.manifest is None else [self.manifest])]


def plan_target(path: Path, file_format: FileFormat | None, tables: Sequence[TableName]) -> Target:
    """The files that `path` stands for: one table if it ends like a table's file, else a directory.

    Args:
        path: A file ending in .parquet or .csv, or a directory, there or to be made.
        file_format: None: as the file's ending says, Parquet in a directory.
        tables: Those that are asked for; none: the facts for a file, all for a directory.

    Raises:
        ExportError: A file can't hold several tables, or ends like another format.
    """
    ending = _SUFFIXES.get(path.suffix.lower())
    if ending is None or path.is_dir():
        chosen = file_format or FileFormat.PARQUET
        requested = [table for table in TableName if table in tables or not tables]
        paths = {table: path / f"{table}.{chosen}" for table in requested}
        return Target(file_format=chosen, paths=paths, manifest=path / "manifest.json")
    if file_format not in {None, ending}:
        raise ExportError(f"{path} ends like {ending}, and --format says {file_format}")
    if len(set(tables)) > 1:
        raise ExportError(f"{path} is one file and holds one table: name a directory for {', '.join(tables)}")
    return Target(file_format=ending, paths={(*tables, TableName.FACTS)[0]: path}, manifest=None)
