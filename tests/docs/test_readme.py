"""The README is short, and its commands work as written."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.harness.processes import clean_environment
from tests.docs.pages import README
from tests.support.process import ServerProcess

MOST_LINES: Final = 200
QUICK_START: Final = re.findall(
    r"^<!-- quick start -->\n```sh\n(.*?)^```$", README.text, re.MULTILINE | re.DOTALL
)
BACKEND: Final = [
    block for block in README.blocks("python") if "from bandit.client" in block and ">>>" not in block
]


def here(block: str, server: ServerProcess) -> str:
    """Return a block of the README, with this test's server and environment in place of the reader's."""
    return block.replace("127.0.0.1:50051", server.address).replace(
        ".venv/bin/", f"{Path(sys.executable).parent}/"
    )


def run(script: list[str], server: ServerProcess, folder: Path) -> str:
    """Run a script, which must succeed, and return its output."""
    environment = clean_environment() | {"BANDIT_SERVER": server.address}
    done = subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_short() -> None:
    """The README has at most 200 lines."""
    assert len(README.text.splitlines()) <= MOST_LINES


def test_quick_start_shifts_traffic(start_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The quick start, typed as written, ends with most traffic on the better arm, and evidence for it."""
    server = start_server()
    printed = run(["bash", "-ec", here("\n".join(QUICK_START), server)], server, tmp_path)
    waves = [int(percent) for percent in re.findall(r"^wave +\d+: +(\d+) % to v2", printed, re.MULTILINE)]
    assert len(waves) == 60
    assert sum(waves[-10:]) / 10 > 70
    assert re.search(r"^v2 +[\d.]+ %", printed, re.MULTILINE), printed
    assert "evidence on click a decision: holds at every look" in printed
    assert "· click: v2 is better (p " in printed
    (backend,) = BACKEND
    assert len(backend.splitlines()) <= 10
    assert re.fullmatch(
        r"v[12] serves user-42\n", run([sys.executable, "-c", here(backend, server)], server, tmp_path)
    )
