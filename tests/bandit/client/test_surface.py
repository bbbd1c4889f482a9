"""The client's surface: its names, its errors, and what importing it pulls in."""

import json
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

import bandit.client
from bandit.client import AsyncBanditClient, BanditClient, CallError, FieldViolation, errors
from bandit.client.errors import CODE_TO_ERROR, call_error
from bandit.v1 import bandit_pb2
from tests.bandit.client.peer import Peer, answer

STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
ROOT = Path(__file__).parents[3]
LIST_THIRD_PARTIES = """
import json, sys
import grpc, google.protobuf
allowed = set(sys.modules)
import bandit.client
names = {name for name in set(sys.modules) - allowed}
print(json.dumps(sorted(names)))
"""


def test_names_are_sorted_and_there() -> None:
    """The public names are listed once, in order, and exist."""
    names = bandit.client.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(bandit.client, name)] == []


def test_every_error_is_exported() -> None:
    """Each error that can be raised can be imported from `bandit.client`."""
    names = {"CallError"} | {each.__name__ for each in CallError.__subclasses__()}
    assert names <= set(bandit.client.__all__)


def test_the_blocking_client_is_the_generated_one() -> None:
    """The blocking client is what its generator makes of the asyncio one."""
    check = [sys.executable, "protos/generate_client.py", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_are_drawn() -> None:
    """The tree in the docstring of the errors is the actual tree."""
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == {"CallError"} | {each.__name__ for each in CallError.__subclasses__()}


@pytest.mark.parametrize("error", sorted(set(CODE_TO_ERROR.values()), key=str))
def test_statuses_are_drawn(error: type[CallError]) -> None:
    """The docstring of the errors names the gRPC statuses of each."""
    [line] = [line for line in (errors.__doc__ or "").splitlines() if f"─ {error.__name__} " in line]
    drawn = line.split("(")[1].rstrip(")").split(", ")
    assert drawn == [code.name for code, each in CODE_TO_ERROR.items() if each is error]


@pytest.mark.parametrize("code", STATUSES)
def test_errors_travel(code: grpc.StatusCode) -> None:
    """Each error keeps its facts when it is sent to another process."""
    error = call_error(code, "no", "BECAUSE", timedelta(seconds=1), (FieldViolation("unit", "too long"),))
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copied) is type(error)
    assert vars(copied) == vars(error)


def test_import_is_light() -> None:
    """Importing the client imports only grpc, protobuf and what these import."""
    output = subprocess.run(
        [sys.executable, "-c", LIST_THIRD_PARTIES], check=True, capture_output=True, text=True
    ).stdout
    packages = {name.split(".")[0] for name in json.loads(output)} - set(sys.stdlib_module_names)
    assert packages == {"bandit", "google", "grpc"} & packages
    google = {".".join(name.split(".")[:2]) for name in json.loads(output) if name.startswith("google.")}
    assert google <= {"google.protobuf", "google._upb"}


def test_linter_of_the_same_name_is_detected(tmp_path: Path) -> None:
    """Where PyCQA's `bandit` has replaced the package root, importing the client is an ImportError."""
    root = tmp_path / "bandit"
    root.mkdir()
    ours = str(Path(bandit.client.__file__).parents[1])
    (root / "__init__.py").write_text(f"__path__ = [{ours!r}]\n")
    finished = subprocess.run(
        [sys.executable, "-c", "import bandit.client"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert finished.returncode == 1
    assert "ImportError: cannot import name 'DISTRIBUTION' from 'bandit'" in finished.stderr


def test_client_made_before_a_fork(peer: Peer) -> None:
    """A client that has made no call before a fork works in the child."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1")))
    program = f"""
import os
from bandit.client import BanditClient, Fallback
client = BanditClient({peer.target!r}, choose_timeout=10.0)
child = os.fork()
if child == 0:
    os._exit(0 if client.choose("ranker", fallback=Fallback("v0")).arm == "v1" else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_three_lines(peer: Peer) -> None:
    """The three lines of the package's docstring choose an arm and reward it."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    recorded = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
    peer.script.on("Reward", answer(recorded))
    with BanditClient(peer.target, choose_timeout=10.0) as client:
        choice = client.choose("ranker", unit="user-1", fallback=bandit.client.Fallback("v0"))
        result = client.reward(choice, {"click": 1.0})
    assert (choice.arm, result.metric_to_result) == ("v1", {"click": "recorded"})


async def test_three_lines_of_asyncio(peer: Peer) -> None:
    """The three lines with `await` do the same."""
    peer.script.on("Choose", answer(bandit_pb2.ChooseResponse(arm="v1", decision_id="signed")))
    recorded = bandit_pb2.RewardResponse(results={"click": bandit_pb2.OUTCOME_RESULT_RECORDED})
    peer.script.on("Reward", answer(recorded))
    async with AsyncBanditClient(peer.target, choose_timeout=10.0) as client:
        choice = await client.choose("ranker", unit="user-1", fallback=bandit.client.Fallback("v0"))
        result = await client.reward(choice, {"click": 1.0})
    assert (choice.arm, result.metric_to_result) == ("v1", {"click": "recorded"})
