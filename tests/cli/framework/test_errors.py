"""Errors of commands: one line for each, an exit code, and no traceback."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import grpc
import pytest
from click.testing import Result

import server
from bandit.client import CallError, FieldViolation
from server.cli.framework.connection import explain
from server.settings import Settings

Run = Callable[..., Result]
NOBODY = "127.0.0.1:1"


class StartupError(Exception):
    """Stands in for the server's error."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Replace the server's module by a stub, which each test completes."""
    module = ModuleType("server.app")
    module.StartupError = StartupError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.app", module)
    monkeypatch.setattr(server, "app", module, raising=False)
    return module


def test_serve_passes_settings_and_returns_the_exit_code(app: ModuleType, run: Run) -> None:
    """Flags become settings, and the server's return value becomes the exit code."""
    taken: list[Settings] = []

    def serve(settings: Settings) -> int:
        taken.append(settings)
        return 7

    app.serve = serve  # type: ignore[attr-defined]
    result = run("serve", "--listen", "127.0.0.1:0", "--no-migrate", "--drain-seconds", "3")
    assert result.exit_code == 7
    assert taken == [Settings(listen="127.0.0.1:0", migrate=False, drain_seconds=3)]


def test_a_failed_start_prints_the_reason(app: ModuleType, run: Run) -> None:
    """It prints the reason in one line, and exits with code 1."""

    def refuse(_settings: Settings) -> int:
        raise StartupError("another server uses bandit.db")

    app.serve = refuse  # type: ignore[attr-defined]
    result = run("serve")
    assert (result.exit_code, result.stderr) == (1, "error: another server uses bandit.db\n")


def test_invalid_settings_are_a_usage_error(run: Run) -> None:
    """Invalid settings exit with code 2, before the server is loaded."""
    result = run("serve", "--listen", "0.0.0.0:50051")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 0.0.0.0:50051 is beyond loopback")


def test_verify_prints_one_line_on_success(app: ModuleType, run: Run) -> None:
    """One line states what was compared, after any notes."""
    report = SimpleNamespace(
        is_clean=True, n_outcomes=12_345, n_experiments=3, differences=(), notes=["epoch 1 of a is sealed"]
    )
    app.verify = lambda _settings, progress: progress(1, 1) or report  # type: ignore[attr-defined]
    result = run("verify", "--database", "sqlite:///x.db")
    assert result.exit_code == 0
    assert result.stdout == (
        "note: epoch 1 of a is sealed\n"
        "clean: 12,345 outcomes of 3 experiments add up to exactly what is stored\n"
    )
    assert result.stderr == ""


def test_verify_fails_on_a_difference(app: ModuleType, run: Run) -> None:
    """Each difference is a line; of very many, the first are shown with the number of others."""
    differences = [f"difference {number}" for number in range(60)]
    report = SimpleNamespace(is_clean=False, n_outcomes=1, n_experiments=1, differences=differences, notes=())
    app.verify = lambda _settings, _progress: report  # type: ignore[attr-defined]
    result = run("verify")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "error: difference 0"
    assert lines[50:] == [
        "error: and 10 more differences",
        "error: to recount, stop the server and run `bandit-server rebuild`",
    ]


def test_rebuild_prints_what_it_counted(app: ModuleType, run: Run) -> None:
    """It prints the outcomes read and rows written, after any notes."""
    report = SimpleNamespace(n_outcomes=12_345, n_rows=67, notes=["a sum stays rounded"])
    app.rebuild = lambda _settings, _progress: report  # type: ignore[attr-defined]
    result = run("rebuild")
    printed = "note: a sum stays rounded\nrebuilt: 12,345 outcomes counted into 67 rows\n"
    assert (result.exit_code, result.stdout) == (0, printed)


@pytest.mark.parametrize(
    "arguments",
    [
        ("experiment", "list"),
        ("experiment", "show", "ranker"),
        ("experiment", "apply", str(Path(__file__).parents[1] / "ranker.toml")),
        ("experiment", "start", "ranker"),
        ("experiment", "pause", "ranker"),
        ("experiment", "conclude", "ranker", "--winner", "v1"),
        ("experiment", "delete", "ranker"),
        ("report", "ranker"),
        ("choose", "ranker"),
        ("reward", "decision", "click=1"),
    ],
)
def test_without_a_server_one_line_explains_how_to_start_one(arguments: tuple[str, ...], run: Run) -> None:
    """Every command that needs a server prints the same line."""
    result = run(*arguments, "--server", NOBODY)
    assert result.exit_code == 1
    assert result.stderr == f"error: no server answers at {NOBODY}: start one with `bandit-server serve`\n"


def test_the_server_can_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """`BANDIT_SERVER` is the default of `--server`."""
    monkeypatch.setenv("BANDIT_SERVER", NOBODY)
    assert NOBODY in run("experiment", "list").stderr


def test_a_file_is_checked_before_the_call(run: Run) -> None:
    """Problems of a file are reported without a server."""
    Path("x.toml").write_text('nam = "x"\n[[arms]]\nid = 1\n')
    result = run("experiment", "apply", "x.toml", "--server", NOBODY)
    assert result.exit_code == 1
    assert result.stderr == (
        "error: x.toml: nam: no such key; did you mean name?\n"
        "error: x.toml: arms[0].id: must be a string, got 1\n"
    )


def test_field_violations_point_into_the_file() -> None:
    """Each line has the file's name and the service's path within the experiment."""
    error = CallError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "two fields are bad",
        "INVALID_EXPERIMENT",
        field_violations=(
            FieldViolation("experiment.arms[1].model_uri", "must be at most 2,048 characters, got 5,000"),
            FieldViolation("limits.minimum_share", "must be below 1, got 1.5"),
        ),
    )
    assert explain(error, NOBODY, "ranker.toml") == [
        "ranker.toml: arms[1].model_uri: must be at most 2,048 characters, got 5,000",
        "ranker.toml: limits.minimum_share: must be below 1, got 1.5",
    ]


def test_an_unavailable_store_is_not_a_missing_server() -> None:
    """An error with a reason comes from a server, and is not reported as a missing server."""
    error = CallError(grpc.StatusCode.UNAVAILABLE, "the store is away", "STORE_UNAVAILABLE")
    assert explain(error, NOBODY) == ["the store is away"]


def test_a_silent_server_is_not_a_missing_server() -> None:
    """A server that does not answer in time is reported as such."""
    error = CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert explain(error, NOBODY) == [f"the server at {NOBODY} did not answer in time"]


@pytest.mark.parametrize("text", ["click", "=1", "click="])
def test_an_outcome_is_a_metric_and_a_value(text: str, run: Run) -> None:
    """Any other text is a usage error."""
    result = run("reward", "decision", text)
    assert result.exit_code == 2
    assert "is not METRIC=VALUE, such as click=1" in result.stderr


@pytest.mark.parametrize("value", ["one", "nan", "inf", "-inf", "1,5", "1 %", "=1"])
def test_the_value_of_an_outcome_is_a_finite_number(value: str, run: Run) -> None:
    """The error names the metric, the value and the rule: the shape of the argument was right."""
    result = run("reward", "decision", "click=1", f"p95.latency={value}")
    assert result.exit_code == 2
    message = " ".join(result.stderr.split())
    assert "the value of 'p95.latency' must be a finite number, with a point for decimals" in message
    assert message.endswith(f"got {value!r}")


def test_a_command_that_an_error_suggests_can_be_pasted(run: Run) -> None:
    """The path of a socket that has a space is one word for the shell."""
    result = run("experiment", "list", "--server", "unix:a b.sock")
    assert result.exit_code == 1
    assert result.stderr.endswith("start a server with `bandit-server serve --listen 'unix:a b.sock'`\n")


@pytest.mark.parametrize("address", ["127.0.0.1:50051\r", "http://localhost", "localhost:99999"])
def test_an_address_that_is_none_is_named_with_its_source(
    address: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever forgot a line in an environment file learns that this is where the address comes from."""
    given = run("experiment", "list", "--server", address)
    monkeypatch.setenv("BANDIT_SERVER", address)
    found = run("experiment", "list")
    assert (given.exit_code, found.exit_code) == (2, 2)
    assert given.stderr.startswith("error: --server: ")
    assert found.stderr == given.stderr.replace("--server", "BANDIT_SERVER", 1)


def test_an_address_without_a_port_is_said(run: Run) -> None:
    """GRPC calls port 443 then, which is nobody's idea of where the server is."""
    result = run("experiment", "list", "--server", "127.0.0.1")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: no server answers at 127.0.0.1, port 443, which gRPC takes where none is given: "
        "write HOST:PORT\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "demo", "--lift"),
        ("reward", "import", "outcomes.csv", "--wait"),
        ("plan", "--decisions-per-day", "100", "--base-rate", "0.1", "--champion-share"),
        ("plan", "--base-rate", "0.1", "--decisions-per-day"),
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "1e999"])
def test_numbers_are_finite(arguments: tuple[str, ...], number: str, run: Run) -> None:
    """NaN lies within no bounds, and outside of none."""
    result = run(*arguments, number)
    assert result.exit_code == 2
    assert "finite" in result.stderr or "is not in the range" in result.stderr


def test_a_token_that_is_none_is_named_with_its_source(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the token itself is not shown."""
    Path("token").write_text("")
    given = run("experiment", "list", "--token-file", "token")
    monkeypatch.setenv("BANDIT_TOKEN", "secret\r")
    found = run("experiment", "list")
    rule = "a token must be printable ASCII without spaces"
    assert (given.exit_code, given.stderr) == (2, f"error: token: {rule}\n")
    assert (found.exit_code, found.stderr) == (2, f"error: BANDIT_TOKEN: {rule}\n")


def test_a_token_for_another_machine_needs_an_option_that_commands_have(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names --tls and --ca, and where the token comes from."""
    Path("token").write_text("secret")
    server = ("--server", "bandit.invalid:50051")
    given = run("experiment", "list", *server, "--token-file", "token")
    monkeypatch.setenv("BANDIT_TOKEN", "secret")
    found = run("experiment", "list", *server)
    rule = (
        "error: the token would be sent to bandit.invalid:50051 unencrypted: add --tls or --ca, or leave out "
    )
    assert (given.exit_code, given.stderr) == (2, f"{rule}--token-file\n")
    assert (found.exit_code, found.stderr) == (2, f"{rule}BANDIT_TOKEN\n")


def test_a_metric_is_named_once(run: Run) -> None:
    """Two values for one metric are refused, as either could be meant."""
    result = run("reward", "decision", "click=1", "click=0")
    assert result.exit_code == 2
    assert "'click=0' names a metric twice" in result.stderr


def test_an_empty_decision_id_is_an_error(run: Run) -> None:
    """An empty id, as from a variable that a script did not set, is an error."""
    result = run("reward", "", "click=1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: DECISION_ID is empty: pass the decision_id of a choice\n"


def test_one_is_singular(app: ModuleType, run: Run) -> None:
    """Messages use the singular for 1."""
    report = SimpleNamespace(is_clean=True, n_outcomes=1, n_experiments=1, n_rows=1, differences=(), notes=())
    app.verify = lambda _settings, _progress: report  # type: ignore[attr-defined]
    app.rebuild = lambda _settings, _progress: report  # type: ignore[attr-defined]
    clean = "clean: 1 outcome of 1 experiment adds up to exactly what is stored\n"
    assert run("verify").stdout == clean
    assert run("rebuild").stdout == "rebuilt: 1 outcome counted into 1 row\n"
