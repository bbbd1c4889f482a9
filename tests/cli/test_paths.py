"""Paths that lead nowhere, given to real commands: one line that names the option, and nothing left."""

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.process import command, run

SERVE = ("serve", "--listen", "127.0.0.1:0")


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "-"),
        ("export", "demo", "-"),
        ("report", "demo", "--html", "-"),
        ("reward", "import", "-"),
        ("reward", "import", "late.csv", "--refused", "-"),
        ("token", "new", "--caller", "a", "--role", "operator", "--append", "-"),
    ],
)
def test_a_hyphen_is_no_file(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Whoever means a pipe is told, and gets neither a file of that name nor a success."""
    done = run(command(*arguments), tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'-' is no file: neither standard input nor standard output can be used here" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ((*SERVE, "--database", "sqlite:///."), 2, "--database: . is a folder, and must be a file"),
        ((*SERVE, "--database", "sqlite:///songs"), 1, "--database: the file is not a database of this"),
        (("verify", "--database", "sqlite:///none"), 1, "--database: there is no database none"),
        (("clock", "show", "--database", "sqlite:////"), 2, "--database: / is a folder, and must be a file"),
        (("backup", "loop"), 1, "loop is there already"),
        (("backup", "--force", "pipe"), 1, "can't write pipe: is a device, pipe or socket"),
        (("backup", "--force", "folder"), 2, ""),
        (("export", "demo", "n" * 300), 1, ""),
        ((*SERVE, "--tokens", "none"), 1, "--tokens: none: no such file or directory"),
        ((*SERVE, "--tokens", "a\n"), 2, "--tokens: must be the path of a file, without line breaks"),
        ((*SERVE, "--database", "postgres://h/x"), 2, "--database: must be sqlite:///FILE or postgresql+"),
        ((*SERVE, "--database", "sqllite:///x"), 2, "--database: must be sqlite:///FILE or postgresql+"),
        (("token", "new", "--caller", "a", "--role", "operator", "--append", "n" * 300), 1, "n" * 300),
    ],
)
def test_a_path_that_leads_nowhere_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, line: str
) -> None:
    """The exit code is 2 where the value is wrong on every machine, and there is never a traceback."""
    (tmp_path / "songs").write_text("no database at all")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    seed = ["-c", "from server.store.opening import open_store; open_store('sqlite:///bandit.db').close()"]
    if arguments[0] in {"backup", "export"}:
        assert run([command()[0], *seed], tmp_path).returncode == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run(command(*arguments), tmp_path)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {line}" if line else ("error: ", "Usage: "))
    left = {path.name for path in tmp_path.iterdir()} - {"bandit.db-wal", "bandit.db-shm"}
    assert sorted(left) == before


def test_a_database_without_where_it_was_set_is_named_by_the_settings_file(tmp_path: Path) -> None:
    """The line names the file and its key."""
    (tmp_path / "bandit-server.toml").write_text('database = "sqlite:///missing/bandit.db"\n')
    done = run(command(*SERVE), tmp_path)
    start = "error: bandit-server.toml: database: can't create missing/bandit.db: there is no folder "
    assert (done.returncode, done.stderr.startswith(start)) == (1, True), done.stderr


@pytest.mark.slow
def test_a_server_whose_folder_is_deleted_ends(start_server: StartServer, tmp_path: Path) -> None:
    """It acknowledges nothing more, and exits with 70 within a minute, by its next write."""
    folder = tmp_path / "data"
    folder.mkdir()
    server = start_server("--database", f"sqlite:///{folder / 'bandit.db'}")
    shutil.rmtree(folder)
    assert server.wait(120) == 70
    assert "store.broken" in [event["event"] for event in server.events()]
