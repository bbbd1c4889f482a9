"""A server of an earlier release, run from its frozen wheel with the libraries of this environment.

It represents the servers that are still running while a newer release is rolled out. Changes of the schema
are tested against it.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.process import ServerProcess, run

WHEELS: Final = Path(__file__).parents[1] / "store" / "frozen"
OLD_VERSION: Final = "0.2.0"


class OldRelease:
    """An earlier release, unpacked.

    Args:
        folder: Where to unpack it.
        version: Version of the wheel in `tests/store/frozen`.
    """

    def __init__(self, folder: Path, version: str = OLD_VERSION) -> None:
        self.version = version
        self._code = folder / f"release-{version}"
        with zipfile.ZipFile(WHEELS / f"bandit_allocator-{version}-py3-none-any.whl") as wheel:
            wheel.extractall(self._code)

    def start(self, database: Path, *flags: str) -> ServerProcess:
        """Start a server; `--database` among the flags overrides the file `database`."""
        return ServerProcess.start(database, *flags, code=self._code)

    def run(self, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run this release's `bandit-server` to its end."""
        done = run([sys.executable, "-P", "-m", "server", *arguments], folder, PYTHONPATH=str(self._code))
        assert not done.stderr.startswith("Traceback"), done.stderr
        return done

    def require(self, folder: Path) -> None:
        """Fail unless a child process really runs this release's code and not the repository's."""
        where = "import bandit, server; print(bandit.__file__, server.__file__)"
        found = run([sys.executable, "-P", "-c", where], folder, PYTHONPATH=str(self._code)).stdout.split()
        if not found or not all(os.path.commonpath([path, self._code]) == str(self._code) for path in found):
            pytest.fail(f"release {self.version} would run the code at {found}")
        assert self.run("--version", folder=folder).stdout.split()[-1] == self.version
