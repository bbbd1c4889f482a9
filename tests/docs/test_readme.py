"""The README is true: what it tells a newcomer to type works as written."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.harness.processes import clean_environment
from server.cli.main import cli
from tests.support.process import ServerProcess

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
QUICK_START = re.findall(r"^<!-- quick start -->\n```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
BACKEND = re.findall(r"^```python\n(from bandit\.client.*?)^```$", README, re.MULTILINE | re.DOTALL)


def here(block: str, server: ServerProcess) -> str:
    """A block of the README, with this test's server and environment in place of the newcomer's."""
    return block.replace("127.0.0.1:50051", server.address).replace(
        ".venv/bin/", f"{Path(sys.executable).parent}/"
    )


def run(script: list[str], server: ServerProcess, folder: Path) -> str:
    """What a script printed; it must succeed."""
    environment = clean_environment() | {"BANDIT_SERVER": server.address}
    done = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quick_start_shifts_traffic(start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The quick start, typed as it stands, ends with most traffic on the better arm."""
    server = start_server()
    printed = run(["bash", "-ec", here("\n".join(QUICK_START), server)], server, tmp_path)
    waves = [int(percent) for percent in re.findall(r"^wave +\d+: +(\d+) % to v2", printed, re.MULTILINE)]
    assert len(waves) == 60
    assert sum(waves[-10:]) / 10 > 70
    assert re.search(r"^v2 +[\d.]+ %", printed, re.MULTILINE), printed
    (backend,) = BACKEND
    run([sys.executable, "-c", here(backend, server)], server, tmp_path)


@pytest.mark.parametrize("block", SHELL_BLOCKS)
def test_commands_exist(block: str) -> None:
    """Every `bandit-server` command of a shell block is one, with these flags."""
    for line in block.replace("\\\n", " ").splitlines():
        for command in re.findall(r"(?:^|&& )\S*bandit-server ([^&]+)", line):
            words = shlex.split(command)
            assert_known(words)


def test_commands_in_prose_exist() -> None:
    """Every `bandit-server` command named in the text is one."""
    commands = re.findall(r"`bandit-server ([^`]+)`", README)
    assert commands
    for command in commands:
        assert_known(shlex.split(command))


def assert_known(words: list[str]) -> None:
    """Fails unless the words name a command, followed by flags that it has."""
    path: list[str] = []
    while words and re.fullmatch(r"[a-z]+", words[0]) and is_command([*path, words[0]]):
        path.append(words.pop(0))
    assert path, f"not a command: {words}"
    page = CliRunner().invoke(cli, [*path, "--help"]).output
    for flag in (word for word in words if word.startswith("--")):
        assert re.search(rf"{flag}\b", page), f"{' '.join(path)} has no {flag}"


def is_command(path: list[str]) -> bool:
    """Whether there is a command of this path."""
    page = CliRunner().invoke(cli, [*path, "--help"])
    return page.exit_code == 0 and f"Usage: cli {' '.join(path)}" in page.output


def test_python_examples_hold() -> None:
    """The interpreter sessions of the README print what they say."""
    done = subprocess.run(
        [sys.executable, "-m", "doctest", str(ROOT / "README.md")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_linked_files_exist() -> None:
    """Every file that the README links is there."""
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
