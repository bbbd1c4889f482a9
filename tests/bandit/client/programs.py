"""Programs that use the client in processes of their own, for what a test can't do to its own process."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Run = Callable[..., str]

PREAMBLE = """
import asyncio, atexit, gc, logging, multiprocessing, os, signal, sys, threading, time, warnings
logging.getLogger("asyncio").setLevel(logging.ERROR)  # a busy machine takes long for steps, of which it warns
warnings.filterwarnings("ignore", ".* is multi-threaded, use of fork", DeprecationWarning)
from bandit.client import AsyncBanditClient, BanditClient, CallError, Fallback, Question, Reward
TARGET = sys.argv[1]
FALLBACK = Fallback("v0")

def make(kind, **arguments):
    kind, _, stream = kind.partition(" with a ")
    client = BanditClient if kind == "blocking" else AsyncBanditClient
    defaults = {"choose_timeout": 10.0, "batch_choose_timeout": 10.0, "stream": stream == "stream"}
    return client(TARGET, **{**defaults, **arguments})

def settle(result):
    return asyncio.run(waiting(result)) if hasattr(result, "__await__") else result

async def waiting(result):
    return await result

def choose(client):
    choice = settle(client.choose("ranker", fallback=FALLBACK))
    return choice.arm if choice.fallback_cause is None else choice.fallback_cause.reason

def expect(actual, expected):
    if actual != expected:
        raise SystemExit(f"got {actual!r}, expected {expected!r}")

def in_child(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as error:
            print(error, file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child

def join(child, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return expect(os.waitstatus_to_exitcode(status), 0)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise SystemExit("the child hung")
"""


def run(program: str, target: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program after the preamble; it must exit with 0. Returns its standard error.

    It is written to a file, since multiprocessing imports the main module of a spawned process again.
    """
    script = folder / "program.py"
    script.write_text(PREAMBLE + program)
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script), target],
        env={**variables, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr
