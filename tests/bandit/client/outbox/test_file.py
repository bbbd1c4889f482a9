"""The file of a reward outbox: whose it is, what damages it, and who shares it."""

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bandit.client import (
    BanditClient,
    OutboxFileError,
    RewardOutbox,
)
from tests.bandit.client.outbox.outboxes import NOBODY, OpenOutbox, judge, keep, posted
from tests.bandit.client.peer import Peer, Script
from tests.support.process import eventually


def test_file_is_private(open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """Only its owner can read the file and those beside it."""
    open_outbox().reward("d1", {"click": 1.0})
    eventually((tmp_path / "rewards.db-sender").exists)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found == dict.fromkeys(
        ("rewards.db", "rewards.db-wal", "rewards.db-shm", "rewards.db-sender"), 0o600
    )


@pytest.mark.parametrize(
    "content", [b"decision_id,metric\n" * 200, b"x", b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_foreign_file_is_left_alone(content: bytes, open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """A file that is no outbox, or a damaged one, is refused and stays as it is."""
    (tmp_path / "rewards.db").write_bytes(content)
    with pytest.raises(OutboxFileError, match=r"rewards\.db: is no reward outbox"):
        open_outbox()
    assert (tmp_path / "rewards.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["rewards.db"]


def test_foreign_database_is_left_alone(open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """Another program's SQLite database is refused and stays as it is."""
    with closing(sqlite3.connect(tmp_path / "rewards.db")) as connection:
        connection.execute("CREATE TABLE pending (number)")
    before = (tmp_path / "rewards.db").read_bytes()
    with pytest.raises(OutboxFileError, match="is a database of something else"):
        open_outbox()
    assert (tmp_path / "rewards.db").read_bytes() == before


def test_damaged_outbox_is_left_alone(open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """An outbox whose pages were overwritten is refused, and not begun anew."""
    outbox = open_outbox()
    keep(outbox, "d" * 200, 50)
    outbox.close(0)
    content = bytearray((tmp_path / "rewards.db").read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / "rewards.db").write_bytes(content)
    with pytest.raises(OutboxFileError, match="damaged"):
        open_outbox()
    assert (tmp_path / "rewards.db").read_bytes() == bytes(content)


def test_path_that_is_none(tmp_path: Path) -> None:
    """A folder, and a file in a folder that is not there, are named with the reason."""
    with BanditClient(NOBODY) as client:
        with pytest.raises(OutboxFileError, match="can't be opened: unable to open database file"):
            RewardOutbox(tmp_path, client)
        with pytest.raises(OutboxFileError, match="can't be opened: No such file or directory"):
            RewardOutbox(tmp_path / "gone" / "rewards.db", client)


@pytest.mark.parametrize("name", ["rewards.db", "rewards.db-wal"])
def test_deleted_file_keeps_nothing(name: str, open_outbox: OpenOutbox, tmp_path: Path) -> None:
    """Once the file or its log is deleted, a reward that nobody would find again is refused."""
    outbox = open_outbox()
    outbox.reward("d1", {"click": 1.0})
    (tmp_path / name).unlink()
    with pytest.raises(OutboxFileError, match="was deleted or replaced while in use, so nothing was kept"):
        outbox.reward("d2", {"click": 1.0})


def run(program: str, *arguments: str) -> str:
    """Run a Python program to its end, which must be a good one; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_full_disk_keeps_nothing(tmp_path: Path) -> None:
    """Where the disk takes no more, the reward is refused with the reason, and those before it are kept."""
    program = f"""
import resource, signal, sys
from bandit.client import BanditClient, OutboxFileError, RewardOutbox
signal.signal({int(signal.SIGXFSZ)}, signal.SIG_IGN)
resource.setrlimit({resource.RLIMIT_FSIZE}, (200_000, 200_000))
outbox = RewardOutbox(sys.argv[1], BanditClient({NOBODY!r}))
kept = 0
try:
    while kept < 10_000:
        outbox.reward(f"decision-{{kept}}", {{"click": 1.0}})
        kept += 1
except OutboxFileError as error:
    assert "can't be written, so nothing was kept" in str(error), error
    print(kept, len(outbox))
"""
    kept, waiting = run(program, str(tmp_path / "rewards.db")).split()
    assert kept == waiting
    assert int(kept) > 0


def test_program_may_end_without_closing(tmp_path: Path) -> None:
    """A program that does not close its outbox ends at once and in order, and its reward is kept."""
    program = f"""
import sys
from bandit.client import BanditClient, RewardOutbox
RewardOutbox(sys.argv[1], BanditClient({NOBODY!r})).reward("d1", {{"click": 1.0}})
"""
    run(program, str(tmp_path / "rewards.db"))
    with BanditClient(NOBODY) as client, closing(RewardOutbox(tmp_path / "rewards.db", client)) as outbox:
        assert len(outbox) == 1
        outbox.close(0)


def test_processes_share_a_file(tmp_path: Path, peer: Peer, script: Script) -> None:
    """Processes that keep rewards in one file at once lose none, and one of them sends them all."""
    script.on("BatchReward", judge(lambda _: None))
    program = f"""
import sys
from bandit.client import BanditClient, RewardOutbox
with RewardOutbox(sys.argv[1], BanditClient({peer.target!r})) as outbox:
    for number in range(100):
        outbox.reward(f"{{sys.argv[2]}}-{{number}}", {{"click": 1.0}})
    assert outbox.flush(50)
"""
    arguments = [[sys.executable, "-c", program, str(tmp_path / "rewards.db"), name] for name in "abc"]
    processes = [subprocess.Popen(each) for each in arguments]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert set(posted(script)) == {f"{name}-{number}" for name in "abc" for number in range(100)}


def test_children_of_a_fork_share_the_file(tmp_path: Path, peer: Peer, script: Script) -> None:
    """Workers that fork while the parent keeps rewards keep theirs too, and all are sent."""
    script.on("BatchReward", judge(lambda _: None))
    program = f"""
import os, sys, threading
from bandit.client import BanditClient, RewardOutbox
outbox = RewardOutbox(sys.argv[1], BanditClient({peer.target!r}))
def keep(name):
    for number in range(50):
        outbox.reward(f"{{name}}-{{number}}", {{"click": 1.0}})
thread = threading.Thread(target=keep, args=("parent",))
thread.start()
children = []
for name in "abcd":
    child = os.fork()
    if child == 0:
        keep(name)
        os._exit(0)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
thread.join()
assert outbox.flush(50)
os._exit(0)
"""
    run_forking(program, tmp_path)
    names = ("parent", *"abcd")
    assert set(posted(script)) == {f"{name}-{number}" for name in names for number in range(50)}


def test_a_fork_is_no_deleted_file(tmp_path: Path) -> None:
    """Each fork closes the file, which ends its log, and a thread that keeps a reward then is not refused."""
    program = f"""
import os, sys, threading
from bandit.client import BanditClient, RewardOutbox
sys.setswitchinterval(1e-6)
outbox = RewardOutbox(sys.argv[1], BanditClient({NOBODY!r}))
is_over = threading.Event()
n_kept = 0
def keep():
    global n_kept
    while not is_over.is_set():
        outbox.reward(f"d-{{n_kept}}", {{"click": 1.0}})
        n_kept += 1
thread = threading.Thread(target=keep)
thread.start()
for _ in range(900):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
is_alive = thread.is_alive()
is_over.set()
thread.join()
assert is_alive
assert outbox.pending == n_kept
os._exit(0)
"""
    run_forking(program, tmp_path)


def run_forking(program: str, folder: Path) -> None:
    """Run a program that forks while its outbox sends, where gRPC starts no threads in the children."""
    command = [sys.executable, "-c", program, str(folder / "rewards.db")]
    environment = os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "0"}  # else gRPC may crash a child
    subprocess.run(command, env=environment, check=True, timeout=120)


def test_another_process_takes_over(
    tmp_path: Path, open_outbox: OpenOutbox, peer: Peer, script: Script
) -> None:
    """When the process that sends is killed, another that has the file open sends what it left."""
    script.on("BatchReward", judge(lambda _: None))
    program = f"""
import sys, time
from bandit.client import BanditClient, RetryPolicy, RewardOutbox
outbox = RewardOutbox(sys.argv[1], BanditClient({NOBODY!r}, retry=RetryPolicy(timeout=0.1)))
outbox.reward("d1", {{"click": 1.0}})
while outbox.last_error is None:
    time.sleep(0.01)
print("sending", flush=True)
sys.stdin.read()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "rewards.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == b"sending\n"
        second = open_outbox(peer.target)
        assert not second.flush(1.5)
    finally:
        first.kill()
        first.communicate()
    assert second.flush(30)
    assert posted(script) == ["d1"]
