"""Where an export goes: a file or a directory, in which format, with which tables."""

from pathlib import Path

import pytest

from server.services.exports.errors import ExportError
from server.services.exports.tables import TableName
from server.services.exports.targets import FileFormat, plan_target


@pytest.mark.parametrize(
    ("path", "file_format", "tables", "files"),
    [
        ("out", None, (), [f"out/{name}.parquet" for name in ("facts", "evidence", "epochs", "rewards")]),
        ("out", FileFormat.CSV, (TableName.REWARDS,), ["out/rewards.csv"]),
        ("out.v2", None, (TableName.FACTS,), ["out.v2/facts.parquet"]),
        ("facts.csv", None, (), ["facts.csv"]),
        ("log.PARQUET", FileFormat.PARQUET, (TableName.REWARDS,), ["log.PARQUET"]),
    ],
)
def test_a_target_is_a_file_if_it_ends_like_one(
    path: str, file_format: FileFormat | None, tables: tuple[TableName, ...], files: list[str]
) -> None:
    """A target is a file if it ends like one and otherwise a directory, which also gets a manifest."""
    target = plan_target(Path(path), file_format, tables)
    assert [str(each) for each in target.paths.values()] == files
    assert (target.manifest is None) == (len(files) == 1 and files[0] == path)


@pytest.mark.parametrize(
    ("file_format", "tables", "message"),
    [
        (FileFormat.PARQUET, (), "x.csv has the suffix of csv, but --format is parquet"),
        (None, tuple(TableName), "x.csv is one file and holds one table"),
    ],
)
def test_a_file_holds_one_table_of_its_format(
    file_format: FileFormat | None, tables: tuple[TableName, ...], message: str
) -> None:
    """A file of another format, or for several tables, is a usage error."""
    with pytest.raises(ExportError, match=message):
        plan_target(Path("x.csv"), file_format, tables)
