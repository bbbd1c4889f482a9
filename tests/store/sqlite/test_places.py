"""Places where no database can be: refused with the reason, before anything is made or locked there."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.store.errors import ForeignFileError, StoreError, StoreInUseError, StorePlaceError
from server.store.opening import open_dialect, open_reader, open_store
from server.store.sqlite.file_lock import FileLock


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with one of each thing that is no database."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs.txt").write_text("no database at all")
    (tmp_path / "inner").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing/bandit.db")
    os.mkfifo(tmp_path / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind("socket")
        yield tmp_path


FOUND_HERE = [
    ("inner", "inner is a folder, and must be a file"),
    ("missing/bandit.db", "there is no (folder .*missing|database missing/bandit.db)$"),
    ("nowhere", "there is no (folder .*missing|database nowhere)$"),
    ("songs.txt", "the file is not a database of this service: songs.txt"),
    ("songs.txt/bandit.db", "a part of the path is a file, where a folder is needed"),
    ("loop", "the path has a link that leads back to itself"),
    ("pipe", "pipe is a device, pipe or socket, and must be a regular file"),
    ("socket", "socket is a device, pipe or socket, and must be a regular file"),
    ("/dev/null", "/dev/null is a device, pipe or socket, and must be a regular file"),
    ("n" * 300, r"n \(300 characters\): the name is too long for the file system"),
    ("d/" * 3_000 + "x", "the name is too long for the file system"),
]
"""What is wrong on this machine, and may be right once something else is there."""

WRONG_ANYWHERE = [
    ("sqlite:///.", r"\. is a folder, and must be a file: name one in it"),
    ("sqlite:///..", r"\.\. is a folder"),
    ("sqlite:////", "/ is a folder"),
    ("sqlite:///new/", "new/ is a folder"),
    ("sqlite://", "keeps its state in a file: name one"),
    ("sqlite:///a%00b", "must not hold a NUL byte"),
    ("sqlite:///a?b.db", "what follows the question mark in the database's URL is not NAME=VALUE"),
    ("sqlite:///x.db?mode=ro", "an SQLite URL takes no options, and mode is given"),
    ("sqlite:///file:x.db?uri=true", "an SQLite URL takes no options, and uri is given"),
]


@pytest.mark.parametrize(("name", "reason"), FOUND_HERE, ids=[name[:12] for name, _ in FOUND_HERE])
def test_nothing_is_left_where_no_database_can_be(folder: Path, name: str, reason: str) -> None:
    """Owner and reader are refused with the reason, and there is no file, lock or log afterwards."""
    before = sorted(folder.rglob("*"))
    for open_it in (open_store, open_reader):
        with pytest.raises((StorePlaceError, ForeignFileError), match=reason) as caught:
            open_it(f"sqlite:///{name}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        assert not getattr(caught.value, "is_malformed", False)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("url", "reason"), WRONG_ANYWHERE)
def test_a_url_that_names_no_file_is_wrong_on_every_machine(folder: Path, url: str, reason: str) -> None:
    """It is refused as a wrong setting, whatever is in the folder."""
    before = sorted(folder.rglob("*"))
    for open_it in (open_store, open_reader):
        with pytest.raises(StorePlaceError, match=reason) as caught:
            open_it(url)
        assert caught.value.is_malformed
    assert sorted(folder.rglob("*")) == before


def test_white_space_around_a_new_name_is_refused(folder: Path) -> None:
    """A variable that ends with a line break starts no second, empty database; one that is there is used."""
    with pytest.raises(StorePlaceError, match=r"must not begin or end with white space: 'bandit\.db\\n'"):
        open_store("sqlite:///bandit.db\n")
    (folder / "bandit.db\n").touch()
    open_store("sqlite:///bandit.db\n").close()
    assert not (folder / "bandit.db").exists()


def test_a_name_whose_companions_would_be_too_long_is_refused(folder: Path) -> None:
    """A name of 247 bytes has room for the files beside it; one of 248 is refused at once."""
    open_store(f"sqlite:///{'n' * 247}").close()
    with pytest.raises(StorePlaceError, match="has 248 bytes, and must have at most 247"):
        open_store(f"sqlite:///{'m' * 248}")
    assert not list(folder.glob("m*"))


def test_a_working_directory_that_is_gone_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path then leads nowhere, and an absolute one is opened."""
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for open_it in (open_store, open_reader):
        with pytest.raises(StorePlaceError, match="the working directory was deleted"):
            open_it("sqlite:///bandit.db")
    open_store(f"sqlite:///{folder / 'bandit.db'}").close()
    monkeypatch.chdir(folder)  # pytest needs one at the end


def test_options_of_the_driver_without_effect_are_still_taken(folder: Path) -> None:
    """A URL of an earlier release may have them, with any value."""
    open_store("sqlite:///bandit.db?timeout=soon&check_same_thread=true").close()
    assert (folder / "bandit.db").exists()


def test_a_start_that_fails_takes_away_what_it_made(folder: Path) -> None:
    """A new file and a new lock are gone again; a lock that was there stays."""
    with pytest.raises(StoreError):
        open_store("sqlite:///new.db", may_migrate=False)
    assert not list(folder.glob("new.db*"))
    open_store("sqlite:///kept.db").close()
    lock = folder / "kept.db.lock"
    number = lock.stat().st_ino
    (folder / "kept.db").unlink()
    with pytest.raises(StoreError):
        open_store("sqlite:///kept.db", may_migrate=False)
    assert lock.stat().st_ino == number


def test_a_lock_that_is_taken_away_never_has_two_owners(folder: Path) -> None:
    """Who takes the lock next has the file that is there, so that a third is refused."""
    database = folder / "bandit.db"
    first = FileLock(database)
    first.release()
    assert not list(folder.glob("bandit.db*"))
    second = FileLock(database)
    with pytest.raises(StoreInUseError):
        FileLock(database)
    second.release()


@given(name=st.text(min_size=1, max_size=60))
def test_any_name_is_a_file_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Whatever stands after the slashes, a database is opened or an error of the store is raised."""
    folder = tmp_path_factory.mktemp("any")
    try:
        open_dialect(f"sqlite:///{folder}/x{name}", is_owner=True).close()
    except StoreError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either outcome is right
    assert not list(folder.rglob("*.lock"))
