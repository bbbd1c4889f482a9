"""Fixtures of the command line's tests: an empty directory, a terminal width, and a runner."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.cli.main import cli

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set a width of 100 columns and an empty working directory."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run `bandit-server` with these arguments; an unexpected exception fails the test."""

    def invoke(*arguments: str, text: str | None = None) -> Result:
        result = CliRunner().invoke(cli, arguments, input=text, prog_name="bandit-server")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
