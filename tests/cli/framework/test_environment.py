"""Doubtful environment variables: mistyped ones are named with what was meant, all others stay silent."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from server.cli.main import cli
from server.environment import COMMAND_VARIABLES, doubtful_variables
from server.settings import SettingValues
from tests.support.process import ServerProcess

Run = Callable[..., Result]
SETTINGS = sorted(f"BANDIT_{name.upper()}" for name in SettingValues.model_fields)


def doubts(*names: str, value: str = "x") -> list[str]:
    """Return the sentences about variables of these names."""
    return doubtful_variables(dict.fromkeys(names, value), is_server=True)


def commands(command: click.Command) -> Iterator[click.Command]:
    """Yield a command and all below it."""
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child)


def test_what_is_read_is_known() -> None:
    """Every variable of a setting or of an option of a command is silent."""
    options = {str(each.envvar) for command in commands(cli) for each in command.params if each.envvar}
    assert options | {"BANDIT_TOKEN"} == COMMAND_VARIABLES
    assert doubts(*SETTINGS, *options, *(name.lower() for name in SETTINGS)) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("BANDIT_TOKNES", "BANDIT_TOKENS"),
        ("BANDIT_DATABSE", "BANDIT_DATABASE"),
        ("BANDIT_DATABASE_URL", "BANDIT_DATABASE"),
        ("BANDIT_LOGLEVEL", "BANDIT_LOG_LEVEL"),
        ("BANDIT_DRAIN_SECS", "BANDIT_DRAIN_SECONDS"),
        ("BANDIT_SERVRE", "BANDIT_SERVER"),
        ("BANDIT_TLS_CERT", "BANDIT_TLS_CERTIFICATE"),
        ("bandit_server", "BANDIT_SERVER"),
        ("Bandit_Lisen", "BANDIT_LISTEN"),
    ],
)
def test_a_mistyped_variable_is_named_with_the_nearest(written: str, meant: str) -> None:
    """One sentence says what was written, and what was meant."""
    assert doubts(written) == [f"{written} is not read; did you mean {meant}?"]


@given(st.sampled_from(SETTINGS), st.data())
def test_two_swapped_letters_are_noticed(name: str, data: st.DataObject) -> None:
    """A setting of seven letters or more with two letters swapped is named."""
    place = data.draw(st.integers(len("BANDIT_"), len(name) - 2))
    written = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    known = {*SETTINGS, *COMMAND_VARIABLES}
    if len(name) >= len("BANDIT_") + 7 and written not in known:
        assert doubts(written) == [f"{written} is not read; did you mean {name}?"]


@given(
    service=st.sampled_from(["BANDIT", "BANDIT_SERVER", "BANDIT_SERVER_CANARY"]),
    ending=st.sampled_from(
        ["PORT", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC"]
        + [f"PORT_50051_{kind}{part}" for kind in ("TCP", "UDP") for part in ("", "_PROTO", "_PORT", "_ADDR")]
    ),
)
def test_kubernetes_variables_are_silent(service: str, ending: str) -> None:
    """What Kubernetes sets for services whose name begins with bandit is no mistake."""
    assert doubts(f"{service}_{ending}", value="tcp://10.0.0.1:50051") == []


def test_variables_of_others_are_silent() -> None:
    """A name that is near to none that is known may be somebody else's."""
    assert doubts("BANDIT_IMAGE", "BANDIT_VERSION", "BANDIT_ENV", "BANDIT_" + "X" * 10_000, "BANDITS") == []


@pytest.mark.parametrize(
    ("written", "meant"), [("BANDIT_PORT", "BANDIT_LISTEN"), ("BANDIT_DB", "BANDIT_DATABASE")]
)
def test_names_of_other_services_are_not_read(written: str, meant: str) -> None:
    """A plain port is meant for this program, while the URL in the same variable is from Kubernetes."""
    assert doubts(written, value="8080") == [f"{written} is not read; did you mean {meant}?"]


def test_the_settings_file_has_no_variable() -> None:
    """All other flags of serve have one, so whoever sets this one is told of the flag."""
    assert doubts("BANDIT_CONFIG") == ["BANDIT_CONFIG is not read: name the settings file with --config"]


def test_a_server_without_protection_says_so() -> None:
    """An empty variable counts as not set, which a server reports where it asked for protection."""
    (sentence,) = doubts("BANDIT_TOKENS", value="")
    assert sentence.startswith("BANDIT_TOKENS is empty, so it counts as not set")
    assert doubtful_variables({"BANDIT_TOKENS": ""}) == []
    assert doubts("BANDIT_METRICS_LISTEN", value="") == []


def test_quotation_marks_are_named() -> None:
    """Docker's --env-file leaves quotation marks in the value, where nobody sees them."""
    (sentence,) = doubts("BANDIT_SERVER", value='"localhost:1"')
    assert "quotation marks are part of its value" in sentence


@pytest.mark.parametrize("name", ["BANDIT_DATABASE", "bandit_listen", "BANDIT_SERVER", "BANDIT_TOKEN"])
def test_a_comment_in_a_value_is_named(name: str) -> None:
    """Docker's --env-file keeps it, so that a database would get it in its name; the value is not shown."""
    (sentence,) = doubts(name, value="secret # prod")
    assert sentence == f"{name}: the comment behind it is part of its value: give it a line of its own"
    assert doubts(name, value="postgresql+psycopg://user:a#b@host/name") == []
    assert doubts("BANDIT_IMAGE", value="a # b") == []


def test_a_command_warns_on_standard_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output stays as it is, for a pipe."""
    plain = run("experiment", "example")
    monkeypatch.setenv("BANDIT_TOKEN_FIEL", "x")
    result = run("experiment", "example")
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    assert result.stderr == "warning: BANDIT_TOKEN_FIEL is not read; did you mean BANDIT_TOKEN_FILE?\n"


def test_a_server_logs_what_it_does_not_read(tmp_path: Path) -> None:
    """Its log stays JSON, and it serves: one event for each doubtful variable, and none for Kubernetes'."""
    environment = {"BANDIT_TOKNES": "/t", "BANDIT_TLS_CLIENT_CA": "", "BANDIT_PORT": "tcp://10.0.0.1:50051"}
    server = ServerProcess.start(tmp_path / "bandit.db", environment=environment)
    problems = [event["problem"] for event in server.events() if event["event"] == "environment.doubtful"]
    assert problems == [
        "BANDIT_TOKNES is not read; did you mean BANDIT_TOKENS?",
        "BANDIT_TLS_CLIENT_CA is empty, so it counts as not set: give it a file",
    ]
    assert server.terminate() == 0
