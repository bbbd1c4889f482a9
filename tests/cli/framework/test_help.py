"""Help: it is complete, fits the terminal, and is fast."""

import doctest
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import Result

import server.cli
from server.cli.main import COMMANDS, cli

Run = Callable[..., Result]
REPOSITORY = Path(__file__).parents[3]


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below `command`, with its path."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


ALL = [pytest.param(path, command, id=" ".join(path) or "root") for path, command in walk(cli)]


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_and_flag_has_help(path: tuple[str, ...], command: click.Command) -> None:
    """Every command and flag has a sentence of help."""
    assert command.help, path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, (path, parameter.name)


@pytest.mark.parametrize(("path", "command"), ALL)
def test_help_lists_every_flag_and_fits(path: tuple[str, ...], command: click.Command, run: Run) -> None:
    """Help fits in 100 columns, and has no colour outside a terminal."""
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert all(len(line) <= 100 for line in result.output.splitlines())
    assert "\x1b" not in result.output
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_root_help_has_each_commands_own_line(name: str) -> None:
    """Both texts are the same; the root has a copy, so that it need not import the command."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.get_short_help_str(limit=100) == COMMANDS[name][1]


def test_serve_shows_default_and_range(run: Run) -> None:
    """Help shows the default and range of settings."""
    text = re.sub(r"\s+", " ", run("serve", "--help").output)
    assert "[default: 127.0.0.1:50051]" in text
    assert "[default: 33_554_432; from 65_536 to 1_073_741_824]" in text


def test_help_imports_neither_grpc_nor_the_server() -> None:
    """Help loads neither gRPC, numpy, SQLAlchemy nor the server, which take long to import."""
    code = (
        "import sys; from server.cli.main import cli; "
        "cli(['--help'], standalone_mode=False); cli(['serve', '--help'], standalone_mode=False); "
        "sys.exit(bool({'grpc', 'numpy', 'sqlalchemy', 'server.app'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_without_the_server_extra_one_line_names_the_package() -> None:
    """The console script, which a base install has too, names the extra to install."""
    code = "import sys; sys.modules['click'] = None; from server.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, cwd=REPOSITORY, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'bandit-allocator[server]'" in done.stderr


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    """Characters that the terminal can't show become plain ones."""
    done = subprocess.run(
        [sys.executable, "-m", "server", "experiment", "example"],
        capture_output=True,
        check=True,
        cwd=REPOSITORY,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert 'digest = "sha256:4f0a..."' in done.stdout


def test_an_unknown_command_is_a_usage_error(run: Run) -> None:
    """An unknown command exits with code 2, as an unknown flag does."""
    assert run("nonsense").exit_code == 2
    assert run("serve", "--nonsense").exit_code == 2


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.walk_packages(server.cli.__path__, "server.cli.")]
)
def test_the_examples_in_docstrings_pass(name: str) -> None:
    """Every doctest of the command line passes."""
    assert doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
