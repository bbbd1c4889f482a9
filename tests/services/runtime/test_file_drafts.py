"""Drafts: no one else can read or replace one, and none is left behind for long."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.processes import REPOSITORY
from server.file_drafts import draft_of
from server.services.runtime.atomic_file import replace_file

_HOLD_A_DRAFT = """
import sys, time
from pathlib import Path
from server.file_drafts import draft_of
with draft_of(Path(sys.argv[1]), mode=0o600) as draft:
    print(draft.path, flush=True)
    time.sleep(60)
"""


def test_the_draft_of_a_killed_writer_is_deleted_by_the_next(tmp_path: Path) -> None:
    """A killed writer's draft, with its keys, is deleted by the next writer; one in use is left alone."""
    file = tmp_path / "keys"
    users_own = tmp_path / ".keys.old.new"
    users_own.write_text("mine")
    arguments = [sys.executable, "-c", _HOLD_A_DRAFT, str(file)]
    with subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        draft = Path(writer.stdout.readline().strip())
        replace_file(file, b"one", mode=0o600)
        assert draft.exists()
        writer.send_signal(signal.SIGKILL)
    assert draft.exists()
    replace_file(file, b"two", mode=0o600)
    assert sorted(tmp_path.iterdir()) == [users_own, file]
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"two", 0o600)


def test_a_draft_is_always_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft is neither a file that others could read nor a link to elsewhere, even if its name is known."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".keys.{'0' * 16}.new").symlink_to(victim)
    with pytest.raises(FileExistsError):
        replace_file(tmp_path / "keys", b"secret", mode=0o600)
    assert victim.read_text() == "precious"


def test_a_draft_that_was_not_installed_is_gone(tmp_path: Path) -> None:
    """If a draft is not installed, the file that was there stays."""
    file = tmp_path / "file"
    file.write_text("old")
    with draft_of(file, mode=0o600) as draft:
        os.write(draft.descriptor, b"new")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]
