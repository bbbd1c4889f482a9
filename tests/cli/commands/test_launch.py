"""`bandit-server launch` shows and moves challengers."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.process import ServerProcess, run_command

FILE = """\
name = "ranker"
champion = "v1"
reward_metric = "click"

[[arms]]
id = "v1"

[[arms]]
id = "v2"

[[metrics]]
name = "click"
kind = "binary"

[limits]
champion_minimum_share = 0.2

[launch]
mode = "automatic"

[[launch.stages]]
kind = "canary"
share = 0.05
minimum_decisions = 5000

[[launch.stages]]
kind = "bandit"
"""


@pytest.fixture
def server(start_server: StartServer) -> ServerProcess:
    """A server of its own."""
    return start_server()


@pytest.fixture
def launched(server: ServerProcess, tmp_path: Path) -> ServerProcess:
    """A server with a launch under way."""
    (tmp_path / "ranker.toml").write_text(FILE)
    for arguments in (("apply", "ranker.toml"), ("start", "ranker")):
        assert run(server, tmp_path, "experiment", *arguments).returncode == 0
    return server


def run(server: ServerProcess, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command against a server."""
    return run_command(*arguments, "--server", server.address, folder=folder)


def test_show_says_where_each_arm_is(launched: ServerProcess, tmp_path: Path) -> None:
    """The first line speaks for the launch; each arm has its step, gates, evidence and what comes next."""
    shown = run(launched, tmp_path, "launch", "show", "ranker").stdout
    assert shown.splitlines() == [
        "Wait: v2 is in canary at 5 %, 0 of 5,000 decisions.",
        "",
        "v2: canary at 5 %, step 1 of 2, share 5.0 % (visit 2)",
        "  Wait: v2 is in canary at 5 %, 0 of 5,000 decisions.",
        "  closed: 0 of 5,000 decisions",
        (
            "  evidence: click: no evidence can be given: the metric has no window, so a missing outcome "
            "never counts as silence"
        ),
        "  next: advance to bandit",
    ]


def test_verbs_print_the_launch_as_it_is_then(launched: ServerProcess, tmp_path: Path) -> None:
    """Each verb prints what `show` would; events tell the story with the reasons."""
    verbs = (
        ("hold", "over the weekend"),
        ("resume", "monday"),
        ("advance", "we are late"),
        ("promote", "we know"),
    )
    for verb, reason in verbs:
        done = run(launched, tmp_path, "launch", verb, "ranker", "--arm", "v2", "--reason", reason)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == run(launched, tmp_path, "launch", "show", "ranker").stdout
    lines = run(launched, tmp_path, "events", "ranker").stdout.splitlines()
    assert [line.split(maxsplit=3)[3] for line in lines if "anyone: " in line][1:] == [
        "5  held         v2  anyone: over the weekend",
        "6  resumed      v2  anyone: monday",
        "7  stage        v2 to bandit  anyone: we are late",
        "8  succeeded    v2  anyone: we know",
        "9  replaced     v1  anyone: we know",
    ] or lines


def test_validation_is_said(launched: ServerProcess, tmp_path: Path) -> None:
    """With --validate-only the first line says that nothing was changed."""
    done = run(launched, tmp_path, "launch", "advance", "ranker", "--reason", "x", "--validate-only")
    assert done.stdout.splitlines()[0] == "Nothing was changed. This is the launch as it would be:"
    assert "canary" in run(launched, tmp_path, "launch", "show", "ranker").stdout


def test_json_is_the_message(launched: ServerProcess, tmp_path: Path) -> None:
    """With --json the launch is printed as the wire has it."""
    found = json.loads(run(launched, tmp_path, "launch", "show", "ranker", "--json").stdout)
    assert (found["champion"], found["arms"][0]["state"]) == ("v1", "ARM_LAUNCH_STATE_CANARY")


def test_a_refusal_is_one_line(launched: ServerProcess, tmp_path: Path) -> None:
    """A verb that the rules forbid fails with their reason, and a missing reason is a usage error."""
    done = run(launched, tmp_path, "launch", "promote", "ranker", "--reason", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "only the bandit stage leads to promotion" in done.stderr
    missing = run(launched, tmp_path, "launch", "rollback", "ranker")
    assert missing.returncode == 2
    assert "--reason" in missing.stderr


def test_the_list_speaks_of_launches(launched: ServerProcess, tmp_path: Path) -> None:
    """`experiment list` says below its table what each launch does, once it was looked at."""
    listed = run(launched, tmp_path, "experiment", "list").stdout
    assert "ranker" in listed
