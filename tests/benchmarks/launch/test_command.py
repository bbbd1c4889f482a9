"""The benchmark of launches: what it tells and writes, and how it ends."""

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.launch.command import main

CASE = "the same, seen in shadow first"


def test_a_launch_is_told_and_written(tmp_path: Path) -> None:
    """A harmful challenger is pulled; the table and the file have the day of each event."""
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(main, ["--cases", CASE, "--days", "2", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "rolled_back" in result.output
    (outcome,) = json.loads(file.read_text())
    assert (outcome["case"]["name"], outcome["end"]) == (CASE, "rolled_back")
    assert outcome["shares"] == {"v1": 1, "v2": 0}
    assert outcome["happened"][0]["what"] == "shadow"


def test_a_launch_that_does_not_end_as_it_should_fails() -> None:
    """In a day nobody is promoted, so that the exit code is 1."""
    result = CliRunner().invoke(main, ["--cases", "+20 %, 4,000 a day", "--days", "1"])
    assert result.exit_code == 1
    assert "under way, NOT AS EXPECTED" in result.output


def test_an_unknown_case_is_refused() -> None:
    """The error names the cases that there are."""
    result = CliRunner().invoke(main, ["--cases", "nobody"])
    assert result.exit_code == 2
    assert "equal, 4,000 a day" in result.output
