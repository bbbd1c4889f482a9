"""Posts survive what a process does: it ends, forks, runs one event loop a call, or loses its service."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from operator import eq
from pathlib import Path

import pytest

from bandit.client import BanditClient, ClientEvent, EventKind, Fallback
from bandit.client.background import CLOSING_SECONDS, IDLE_SECONDS, _Worker
from bandit.v1 import bandit_pb2
from tests.bandit.client.blocks import posted, records
from tests.bandit.client.peer import Peer, Script, answer
from tests.support.process import eventually

SECONDS = 60.0
START = """
import asyncio, os, sys, time
from bandit.client import AsyncBanditClient, BanditClient, Fallback
V0 = Fallback("v0")
target = sys.argv[1]
"""


@pytest.fixture(autouse=True)
def _answers(script: Script) -> Iterator[None]:
    """The peer chooses v1 and records everything."""
    script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    script.on("BatchReward", records())
    yield
    script.released.set()


def run(program: str, peer: Peer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that is given the peer's address, to its end."""
    path = folder / "program.py"
    path.write_text(START + program)
    command = [sys.executable, str(path), peer.target]
    root = Path(__file__).parents[3]
    return subprocess.run(
        command,
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


ENDS = {
    "ends": "",
    "exits": "sys.exit(0)\n",
    "closes": "client.close()\n",
    "leaves the block of the client": "client.__exit__(None, None, None)\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_the_last_posts_of_a_process(peer: Peer, script: Script, tmp_path: Path, end: str) -> None:
    """A program that ends just after its last block has sent the post, with or without closing the client."""
    program = f"""
client = BanditClient(target, choose_timeout=30.0)
for _ in range(3):
    with client.serve("ranker", fallback=V0):
        pass
{end}"""
    done = run(program, peer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(posted(script)) == 3


def test_an_end_without_the_service(peer: Peer, script: Script, tmp_path: Path) -> None:
    """A program whose service hangs ends all the same, with little delay and without a traceback."""
    script.on("BatchReward", script.hang)
    program = """
client = BanditClient(target, choose_timeout=30.0)
with client.serve("ranker", fallback=V0):
    pass
"""
    began = time.monotonic()
    done = run(program, peer, tmp_path)
    assert time.monotonic() - began < CLOSING_SECONDS + 20.0
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_loops_that_end(peer: Peer, script: Script, tmp_path: Path) -> None:
    """Each event loop sends its own posts before it ends, and asyncio has nothing to complain of."""
    program = """
async def serve():
    client = AsyncBanditClient(target, choose_timeout=30.0)
    async with client.serve("ranker", fallback=V0):
        pass
for _ in range(5):
    asyncio.run(serve(), debug=True)
"""
    done = run(program, peer, tmp_path)
    assert done.returncode == 0
    assert "pending" not in done.stderr
    assert "Traceback" not in done.stderr
    assert len(posted(script)) == 5


def test_a_forked_process_has_its_own(peer: Peer, script: Script, tmp_path: Path) -> None:
    """A child sends its own posts with a thread of its own, and not those that its parent had waiting."""
    program = """
client = BanditClient(target, choose_timeout=30.0)
child = os.fork()
if child == 0:
    with client.serve("ranker", fallback=V0):
        pass
    client.close()
    os._exit(0 if client.counts.n_posted == 3 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run(program, peer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(posted(script)) == 1


def test_items_of_a_parent(peer: Peer, tmp_path: Path) -> None:
    """A child of a process that was sending sends its own items, and not those of its parent."""
    program = """
import warnings
from bandit.client.background import Background
warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)
sent = []
def send(items, seconds):
    sent.extend(items)
background = Background(send, print)
background.put("of an earlier batch")
while not sent:
    time.sleep(0.01)
background.put("of the parent")
child = os.fork()
if child == 0:
    sent.clear()
    background.put("of the child")
    background.close()
    os._exit(0 if sent == ["of the child"] else 1)
background.close()
assert sent == ["of an earlier batch", "of the parent"]
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = run(program, peer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hook_may_close_its_client(peer: Peer, tmp_path: Path) -> None:
    """A hook that closes the client from the thread of the posts does not wait for itself."""
    program = """
client = BanditClient(target, choose_timeout=30.0, on_event=lambda _event: client.close())
with client.serve("ranker", fallback=V0):
    pass
while not client.counts.n_posted:
    time.sleep(0.01)
"""
    done = run(program, peer, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_hook_that_exits_ends_no_posts(peer: Peer, script: Script) -> None:
    """A hook that calls sys.exit ends the thread of the posts; the next block starts another."""
    n_exits = 2

    def leave(event: ClientEvent) -> None:
        nonlocal n_exits
        if event.kind is EventKind.POSTED and n_exits:
            n_exits -= 1
            sys.exit()

    with BanditClient(peer.target, choose_timeout=30.0, on_event=leave) as client:
        for number in range(1, 4):
            with client.serve("ranker", fallback=Fallback("v0")):
                pass
            eventually(lambda: len(posted(script)), until=partial(eq, number))
        eventually(lambda: client.counts.n_posted, until=partial(eq, 9))


def test_an_item_that_comes_as_the_thread_ends() -> None:
    """A thread that is about to end stays for an item that was put at that moment."""
    sent: list[int] = []
    worker = _Worker[int](lambda items, _seconds: sent.extend(items), sent.extend)
    worker._thread = threading.current_thread()
    worker.put(1)
    assert not worker._may_end()
    assert worker._take(9) == [1]
    assert worker._may_end()


def test_a_thread_without_work_ends(peer: Peer, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle client has no thread; the next block starts another, and no post is lost between them."""
    assert IDLE_SECONDS > 1
    monkeypatch.setattr("bandit.client.background.IDLE_SECONDS", 0.01)
    monkeypatch.setattr("bandit.client.background.GATHERING_SECONDS", 0.001)
    with BanditClient(peer.target, choose_timeout=30.0) as client:
        for number in range(1, 101):
            with client.serve("ranker", fallback=Fallback("v0")):
                pass
            if number % 10 == 0:
                eventually(lambda: client._posts._background._worker()._thread is None)
                assert len(posted(script)) == number
