"""Copies of a database that can't be written, nor their folder: read, or refused with what to do."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from benchmarks.harness.processes import REPOSITORY
from server.store.opening import open_store
from tests.store.builders import reward
from tests.support.process import command, powerless, run

Done = subprocess.CompletedProcess[str]
Read = Callable[..., Done]

_MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


def mounted(folder: Path) -> Sequence[str]:
    """Return what runs a command for which a folder is mounted read-only; skip where that is not allowed."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    program = ["unshare", *user, "--mount", "sh", "-c", _MOUNT, "sh", str(folder)]
    if shutil.which("unshare") is None or run([*program, "true"], folder).returncode:
        pytest.skip("this machine does not allow a mount; the same runs with permissions in its place")
    return program


def forbidden(folder: Path) -> Sequence[str]:
    """Return what runs a command whose user may write neither a folder nor the files in it."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return powerless()


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """A folder with a database that has three rewards, as after a clean stop."""
    folder = tmp_path / "copies"
    folder.mkdir()
    store = open_store(f"sqlite:///{folder / 'bandit.db'}")
    store.record_rewards([reward() for _ in range(3)], 0)
    store.close()
    return folder


@pytest.fixture(params=[mounted, forbidden], ids=["mounted", "forbidden"])
def read(request: pytest.FixtureRequest, copies: Path, tmp_path: Path) -> Read:
    """Run a command on the database while neither it nor its folder can be written."""

    def invoke(*arguments: str) -> Done:
        before = request.param(copies)
        database = ("--database", f"sqlite:///{copies / 'bandit.db'}")
        try:
            return run([*before, *command(*arguments, *database)], tmp_path)
        finally:
            copies.chmod(0o755)

    return invoke


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_copy_that_cannot_be_written_is_verified_and_copied(read: Read, copies: Path) -> None:
    """SQLite would make files beside it to read it; it is read without them, and stays as it was."""
    (copies / "bandit.db.lock").unlink()
    before = (copies / "bandit.db").read_bytes()
    done = read("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clean: 3 outcomes of ")
    target = copies.parent / "target.db"
    assert read("backup", str(target)).returncode == 0
    assert target.exists()
    assert names(copies) == ["bandit.db"]
    assert (copies / "bandit.db").read_bytes() == before


def test_an_export_of_such_a_copy_reaches_the_database(read: Read) -> None:
    """Export reads it, too: the one thing that it lacks is an experiment."""
    done = read("export", "nobody", "out")
    assert (done.returncode, done.stderr) == (1, "error: there is no experiment 'nobody'\n")


def test_commits_in_a_log_that_cannot_be_read_are_not_passed_over(read: Read, copies: Path) -> None:
    """With the log of a server that was killed, and no index to it, the copy is refused with the fix."""
    whole = copies.parent / "whole"
    killed(whole)
    for name in ("bandit.db", "bandit.db-wal"):
        shutil.copy(whole / name, copies / name)
    for arguments in (("verify",), ("backup", str(copies.parent / "target.db"))):
        done = read(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: --database: the latest commits are in ")
        assert "copy bandit.db and bandit.db-wal together to a folder that can be written" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (copies.parent / "target.db").exists()


def test_a_log_with_its_index_is_read(read: Read, copies: Path) -> None:
    """With all files of a server that was killed, every commit is there."""
    whole = copies.parent / "whole"
    killed(whole)
    for name in ("bandit.db", "bandit.db-wal", "bandit.db-shm"):
        shutil.copy(whole / name, copies / name)
    done = read("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clean: 5 outcomes of ")


def test_a_server_needs_a_place_that_it_may_write(read: Read, copies: Path) -> None:
    """`serve` and `rebuild` are refused with the reason, and leave nothing behind."""
    (copies / "bandit.db.lock").unlink()
    for arguments in (("serve", "--listen", "127.0.0.1:0"), ("rebuild",)):
        done = read(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: --database: {copies / 'bandit.db'} can't be written: ")
        assert "mounted read-only" in line or "this user may not write it (its mode is 444)" in line
    assert names(copies) == ["bandit.db"]


_KILLED = """
import os, signal, sys
from server.store.opening import open_store
from tests.store.builders import reward
store = open_store(sys.argv[1])
store.record_rewards([reward() for _ in range(5)], 0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path) -> None:
    """Make a database with five rewards whose owner was killed, so that they are in its log."""
    folder.mkdir()
    program = [*command()[:1], "-c", _KILLED, f"sqlite:///{folder / 'bandit.db'}"]
    subprocess.run(program, cwd=Path(__file__).parents[3], check=False)
    assert (folder / "bandit.db-wal").stat().st_size > 0


_FILL: Final = """
mount -t tmpfs -o size=1M none "$1" && cd "$1" && shift || exit 77
if [ -n "$1" ]; then cp "$1" bandit.db; fi
head -c 2M /dev/zero > fill 2>/dev/null
shift
exec "$@"
"""


@pytest.mark.parametrize(
    ("verb", "has_database"), [("serve", False), ("serve", True), ("verify", True), ("backup", True)]
)
def test_a_full_disk_is_said_to_be_full(
    copies: Path, tmp_path: Path, verb: str, *, has_database: bool
) -> None:
    """From the first byte on, by a server and by commands: nothing is said to be damaged."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    full = tmp_path / "full"
    full.mkdir()
    database = str(copies / "bandit.db") if has_database else ""
    program = ["unshare", *user, "--mount", "sh", "-c", _FILL, "sh", str(full), database]
    if shutil.which("unshare") is None or run([*program, "true"], tmp_path).returncode:
        pytest.skip("this machine does not allow a mount")
    flags = {"serve": ("--listen", "127.0.0.1:0"), "verify": (), "backup": (str(tmp_path / "copy.db"),)}
    arguments = (verb, *flags[verb], "--database", f"sqlite:///{full / 'bandit.db'}")
    done = run([*program, *command(*arguments)], REPOSITORY)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("error: no room left ")
    assert "Traceback" not in done.stderr
