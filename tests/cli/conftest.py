"""What the tests of the command line share: an empty directory, a width, and a way to run it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.cli.main import cli

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """100 columns, and a working directory of the test's own."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Runs `bandit-server` with these arguments; an error that no person should see fails the test."""

    def invoke(*arguments: str, text: str | None = None) -> Result:
        result = CliRunner().invoke(cli, arguments, input=text, prog_name="bandit-server")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
