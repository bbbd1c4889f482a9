"""The wheel, in an environment that holds nothing else."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SERVE_AND_CHOOSE = """
set -eu
"$BIN/bandit-server" serve --listen 127.0.0.1:0 > out.txt 2> err.txt &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 300); do grep -q serving out.txt && break; sleep 0.1; done
export BANDIT_SERVER="$(sed 's/.* //' out.txt)"
"$BIN/bandit-server" experiment example > ranker.toml
"$BIN/bandit-server" experiment apply ranker.toml
"$BIN/bandit-server" experiment start ranker
"$BIN/python" -c "
import os
from bandit.client import BanditClient, Fallback
with BanditClient(os.environ['BANDIT_SERVER'], choose_timeout=5.0) as client:
    print(client.choose('ranker', unit='user-1', fallback=Fallback('v1')))
"
trap - EXIT
kill -TERM $server
wait $server
"""


class Environment:
    """A virtual environment for one test.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder)
        self.folder = folder
        self.bin = folder / "bin"

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program, by default one that must succeed, in a folder without the sources."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("BANDIT_", "PYTHON"))}
        return subprocess.run(
            [*map(str, arguments)],
            cwd=self.folder,
            env=environment | {"BIN": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=600,
            check=check,
        )

    def pip(self, *arguments: str) -> str:
        """Return the output of this environment's pip on that one, which has none."""
        return self.run(sys.executable, "-m", "pip", "--python", self.bin / "python", *arguments).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of these sources, built from a copy without anything that git does not track."""
    sources = tmp_path_factory.mktemp("sources")
    list_files = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in [name for name in listed.split("\0") if name and (ROOT / name).is_file()]:
        copy = sources / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(target), str(sources)]
    subprocess.run(build, check=True, timeout=600)
    (built,) = target.glob("*.whl")
    return built


@pytest.mark.timeout(900)
def test_wheel_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """The base install is the client alone; with `[server]` it migrates and serves from any folder."""
    environment = Environment(tmp_path / "environment")
    environment.pip("install", "--quiet", "--no-compile", str(wheel))
    packages = environment.pip("list", "--format=freeze").split()
    assert {package.partition("==")[0] for package in packages} == {
        "bandit-allocator",
        "grpcio",
        "protobuf",
        "typing_extensions",
    }
    environment.run(environment.bin / "python", "-c", "import bandit.client")
    refused = environment.run(environment.bin / "bandit-server", "serve", check=False)
    assert refused.returncode == 1
    assert "pip install 'bandit-allocator[server]'" in refused.stderr

    environment.pip("install", "--quiet", "--no-compile", f"{wheel}[server]")
    served = environment.run("bash", "-c", SERVE_AND_CHOOSE)
    assert "is_fallback=True" not in served.stdout
    assert "decision_id='A" in served.stdout
