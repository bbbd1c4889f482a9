"""The compiled programs of the comparison, built on the spot: a load client in C, and an echo on grpc-go."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).resolve().parent
_BUILD_SECONDS: Final = 600.0
"""The first build of the Go echo downloads and compiles gRPC, 45 s here."""


class BuildError(Exception):
    """A program cannot be built on this machine; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgram:
    """The load client.

    Attributes:
        path: The executable.
        has_tls: Whether OpenSSL was there to build it with.
    """

    path: Path
    has_tls: bool


def build_load_client(folder: Path) -> LoadProgram:
    """Compile the load client into a folder, with TLS if the headers of OpenSSL are there.

    Raises:
        BuildError: There is no C compiler, or it fails.
    """
    compiler = _find("cc", "a C compiler")
    path = folder / "load_client"
    sources = sorted(map(str, (_HERE / "load_client").glob("*.c")))
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(path), *sources]
    try:
        _run([*command, "-DWITH_TLS", "-lssl", "-lcrypto"], folder)
    except BuildError:
        _run(command, folder)
        return LoadProgram(path=path, has_tls=False)
    return LoadProgram(path=path, has_tls=True)


def build_go_echo(folder: Path) -> Path:
    """Compile the echo on grpc-go into a folder; return the executable.

    Raises:
        BuildError: There is no Go, or it cannot download or compile gRPC.
    """
    path = folder / "go_echo"
    _run([_find("go", "Go"), "build", "-o", str(path), "."], _HERE / "go_echo")
    return path


def _find(name: str, title: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"{title} is missing: `{name}` is not on the PATH")
    return found


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"`{command[0]}` has not ended after {_BUILD_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise BuildError(f"`{command[0]}` failed: {done.stderr.strip()[-400:]}")
