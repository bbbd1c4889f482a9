"""The foreign programs: built from the files beside this one, with the machine's own toolchains."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from benchmarks.harness.processes import REPOSITORY, clean_environment
from tests.foreign.calls import Call, Outcome

HERE: Final = Path(__file__).parent
CONCURRENCY: Final = 100
"""Calls of a client under way at once, all on one connection: enough for Go's bursts of pings."""

_BUILD_SECONDS: Final = 600.0


class Client:
    """A program that makes calls, one process and one connection for each address.

    Args:
        program: Its command line, before the address.
    """

    def __init__(self, *program: str) -> None:
        self._program = program
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def make(self, address: str, calls: Sequence[Call]) -> list[Outcome]:
        """Make calls, many at a time; return their outcomes in order."""
        if address not in self._processes:
            self._processes[address] = self._start(address)
        process = self._processes[address]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(f"{call.line}\n" for call in calls)
        process.stdin.write("\n")
        process.stdin.flush()
        lines = list(islice(process.stdout, len(calls)))
        assert len(lines) == len(calls), "the client ended; its standard error says why"
        return [Outcome.of_line(line.rstrip("\n")) for line in lines]

    def close(self) -> None:
        """End the processes; each must exit with 0."""
        for process in self._processes.values():
            process.communicate(timeout=60)
        assert {process.returncode for process in self._processes.values()} <= {0}

    def _start(self, address: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._program, address, str(CONCURRENCY)],
            cwd=REPOSITORY,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
        )


def go_client(folder: Path) -> Client:
    """Return the client in Go."""
    return Client(str(build_go("bandit/foreign", folder / "client")))


def node_client(folder: Path) -> Client:
    """Return the client in Node."""
    _require("node", "npm", said="Node and npm are not installed: the client in Node did not run")
    for file in ("client.js", "package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / file, folder)
    _build("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", folder=folder)
    return Client("node", str(folder / "client.js"))


def java_client(folder: Path) -> Client:
    """Return the client in Java."""
    _require("javac", "mvn", said="Java and Maven are not installed: the client in Java did not run")
    file = folder / "classpath"
    pom = str(HERE / "java/pom.xml")
    _build("mvn", "-q", "-B", "-f", pom, "dependency:build-classpath", f"-Dmdep.outputFile={file}")
    libraries = file.read_text()
    _build("javac", "-cp", libraries, "-d", str(folder), str(HERE / "java/Client.java"))
    return Client("java", "-cp", f"{folder}:{libraries}", "Client")


def grpcio_client(_folder: Path) -> Client:
    """Return the client in Python, with grpcio."""
    return Client(sys.executable, "-m", "tests.foreign.grpcio_client")


def build_go(package: str, program: Path) -> Path:
    """Build a package that `go.mod` lists; return the path of the program."""
    _require("go", said=f"Go is not installed: {package} did not run")
    _build("go", "build", "-o", str(program), package, folder=HERE / "go")
    return program


def _require(*programs: str, said: str) -> None:
    """Skip the test, with what is missing as the reason, unless all programs are installed."""
    if not all(map(shutil.which, programs)):
        pytest.skip(said)


def _build(*program: str, folder: Path = HERE) -> None:
    done = subprocess.run(
        program, cwd=folder, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{program[0]} failed: {done.stdout} {done.stderr}"
