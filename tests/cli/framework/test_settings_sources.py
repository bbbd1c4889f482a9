"""Settings: their sources, precedence, and errors."""

import re
from pathlib import Path

import pytest

from server.addresses import is_loopback, split_address
from server.cli.framework.settings_sources import DEFAULT_FILE, load_settings
from server.settings import Settings, SettingsError, check_listen


def problems_of(flags: dict[str, object], config: Path | None = None) -> tuple[str, ...]:
    """Return the problems of these settings, which must have some."""
    with pytest.raises(SettingsError) as caught:
        load_settings(flags, config)
    return caught.value.problems


def test_every_setting_has_a_default() -> None:
    """Settings are complete without file, environment and flags."""
    assert load_settings({}) == Settings()


def test_every_setting_is_described() -> None:
    """Every setting has a description that ends with a full stop."""
    for field in Settings.model_fields.values():
        assert field.description is not None
        assert field.description.endswith(".")


def test_flags_beat_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each setting, the strongest source that has it wins."""
    DEFAULT_FILE.write_text("drain_seconds = 1\npoll_seconds = 2\nlag_seconds = 3\n")
    monkeypatch.setenv("BANDIT_POLL_SECONDS", "0.2")
    monkeypatch.setenv("BANDIT_LAG_SECONDS", "0.3")
    settings = load_settings({"lag_seconds": "0.4", "listen": None})
    assert (settings.drain_seconds, settings.poll_seconds, settings.lag_seconds) == (1, 0.2, 0.4)


def test_settings_built_in_code_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load_settings` reads the environment."""
    monkeypatch.setenv("BANDIT_DRAIN_SECONDS", "3")
    assert Settings().drain_seconds == 10


def test_a_flag_can_disallow_what_the_file_allows() -> None:
    """A flag set to false counts as given."""
    DEFAULT_FILE.write_text("insecure = true\n")
    assert load_settings({}).insecure
    assert not load_settings({"insecure": False}).insecure


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """`BANDIT_METRICS_LISTEN=` means the default."""
    monkeypatch.setenv("BANDIT_METRICS_LISTEN", "")
    assert load_settings({}).metrics_listen is None


def test_foreign_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes' variables for a service called bandit are ignored."""
    monkeypatch.setenv("BANDIT_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("BANDIT_PORT", "tcp://10.0.0.1:50051")
    assert load_settings({}) == Settings()


def test_an_unknown_key_names_file_key_and_nearest() -> None:
    """A typo in the file is refused, with a suggestion."""
    DEFAULT_FILE.write_text('databse = "sqlite:///x.db"\n')
    assert problems_of({}) == ("bandit-server.toml: databse: no such setting; did you mean database?",)


@pytest.mark.parametrize("key", ["POLL_SECONDS", "Poll-Seconds", "poll-seconds"])
def test_a_key_as_environments_and_flags_have_it_is_recognised(key: str) -> None:
    """Whoever copies a setting from there is told how the file spells it."""
    DEFAULT_FILE.write_text(f"{key} = 1\n")
    assert problems_of({}) == (f"bandit-server.toml: {key}: no such setting; did you mean poll_seconds?",)


@pytest.mark.parametrize("level", ["INFO", "Warning"])
def test_levels_of_logs_may_be_capitals(level: str) -> None:
    """As Python and Docker files write them."""
    assert load_settings({"log_level": level}).log_level == level.lower()


def test_a_bad_value_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors name file, variable or flag, and all problems are reported at once."""
    DEFAULT_FILE.write_text("reward_queue_rows = 0\n")
    monkeypatch.setenv("BANDIT_LOG_LEVEL", "loud")
    assert sorted(problems_of({"drain_seconds": "-1"})) == [
        "--drain-seconds: must be greater than or equal to 0, got '-1'",
        "BANDIT_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error', got 'loud'",
        "bandit-server.toml: reward_queue_rows: must be greater than or equal to 1, got 0",
    ]


def test_a_retention_that_is_too_short_is_refused_with_the_numbers() -> None:
    """The minimum covers replicas with old epochs and clock differences; purge=False has no minimum."""
    (problem,) = problems_of({"retention_seconds": "4000"})
    assert problem == (
        "--retention-seconds: must be at least 4205: max_staleness_seconds (600) and lag_seconds (5), for "
        "which a replica may use an old epoch, and 3600 for clocks that disagree, got '4000'"
    )
    assert load_settings({"retention_seconds": "4205"}).retention_seconds == 4205
    assert not load_settings({"retention_seconds": "1", "purge": False}).purge


@pytest.mark.parametrize("value", ["3", '""', "[]"])
def test_an_invalid_path_is_refused(value: str) -> None:
    """Every setting that names a file refuses other values, and an empty name."""
    names = ("tls_certificate", "tls_key", "tls_client_ca", "tokens", "snapshot", "keys")
    DEFAULT_FILE.write_text("".join(f"{name} = {value}\n" for name in names))
    rule = "must be the path of a file, got"
    assert all(f"{name}: {rule}" in problem for name, problem in zip(names, problems_of({}), strict=True))


def test_a_missing_file_is_refused_if_asked_for() -> None:
    """`--config` names a file that must exist; the default one need not."""
    assert problems_of({}, Path("no.toml")) == ("no.toml: no such file or directory",)


def test_broken_toml_names_file_and_place() -> None:
    """A syntax error has the file and line."""
    DEFAULT_FILE.write_text("listen = \n")
    (problem,) = problems_of({})
    assert re.fullmatch(r"bandit-server\.toml: not TOML: .*line 1.*", problem)


@pytest.mark.parametrize("name", ["lag_seconds", "max_staleness_seconds"])
def test_a_time_shorter_than_the_poll_is_refused(name: str) -> None:
    """It is refused, as decisions between two polls would be unconfirmed or stale."""
    (problem,) = problems_of({name: 2, "poll_seconds": 2})
    assert problem == f"--{name.replace('_', '-')}: must be more than poll_seconds (2), got 2"


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_staleness_is_finite(value: str) -> None:
    """An infinite staleness, with which a cut-off server would serve old shares for ever, is refused."""
    (problem,) = problems_of({"max_staleness_seconds": value})
    assert "finite" in problem or "less than" in problem


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///bandit.db",
        "sqlite:////var/lib/bandit.db",
        "postgresql+psycopg://user:secret@host:5432/bandit",
    ],
)
def test_databases_on_disk_and_postgresql_are_accepted(url: str) -> None:
    """Files by relative and absolute path, and PostgreSQL with psycopg, are accepted."""
    assert load_settings({"database": url}).database == url


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused_with_the_reason(url: str) -> None:
    """The error explains that each thread would have its own database."""
    (problem,) = problems_of({"database": url})
    assert "an in-memory database is a separate one in every thread" in problem


@pytest.mark.parametrize(
    "url", ["mysql://h/x", "postgres://h/x", "postgresql://h/x", "bandit.db", "sqlite://x"]
)
def test_other_databases_are_refused(url: str) -> None:
    """Only SQLite and PostgreSQL are accepted."""
    assert len(problems_of({"database": url})) == 1


def test_a_password_is_not_printed() -> None:
    """A refused URL is shown without its password."""
    (problem,) = problems_of({"database": "postgres://user:secret@host/bandit"})
    assert "user:***@host" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgres//user:hunter2@host/bandit",
        "postgresql+psycopg:/user:hunter2@host/bandit",
        "postgresql+psycopg:user:hun@ter2@host/bandit",
        "user:hunter2@host/bandit",
        "host=host user=user password=hunter2 dbname=bandit",
        "password = 'hunter2 hunter2'",
        "postgresql+asyncpg://host/bandit?password=hunter2&user=user",
    ],
)
def test_a_mistyped_url_is_shown_without_its_password(url: str) -> None:
    """What a typo makes of a URL, and the driver's other form, hide it too."""
    (problem,) = problems_of({"database": url})
    assert "***" in problem
    assert "ter2" not in problem


@pytest.mark.parametrize(
    "address", ["", "50051", ":50051", "::1:50051", "host:", "host:x", "host:65536", "a b:1"]
)
def test_an_address_is_host_and_port(address: str) -> None:
    """Any other text is refused."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:0", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_loopback_is_reachable_from_this_machine_only(address: str, *, expected: bool) -> None:
    """Wildcard addresses and host names do not count as loopback."""
    assert is_loopback(address) is expected


TLS = {"tls_certificate": Path("c.pem"), "tls_key": Path("c.key")}


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "there is no TLS"),
        ({"tokens": Path("t")}, "there is no TLS"),
        (TLS, "callers need no credentials"),
    ],
)
def test_an_address_beyond_loopback_needs_tls_and_callers(given: dict[str, Path], missing: str) -> None:
    """The error names the address, what is missing, and the flag that allows it."""
    with pytest.raises(SettingsError, match=rf"0\.0\.0\.0:1 is beyond loopback and {missing}.* --insecure"):
        check_listen(Settings(listen="0.0.0.0:1", **given))  # type: ignore[arg-type]
    check_listen(Settings(listen="0.0.0.0:1", insecure=True, **given))  # type: ignore[arg-type]
    check_listen(Settings(listen="127.0.0.1:1", **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"tokens": Path("t.toml")}, {"tls_client_ca": Path("ca.pem")}])
def test_tls_with_known_callers_may_listen_anywhere(given: dict[str, Path]) -> None:
    """With TLS and callers known by token or certificate, any address is accepted."""
    check_listen(Settings(listen="0.0.0.0:1", **TLS, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"tls_certificate": "c.pem"}, "--tls-certificate: must come with tls_key, got 'c.pem'"),
        ({"tls_key": "c.key"}, "--tls-key: must come with tls_certificate, got 'c.key'"),
        (
            {"tls_client_ca": "ca.pem"},
            "--tls-client-ca: must come with tls_certificate and tls_key, got 'ca.pem'",
        ),
        ({"calls_per_second": "0"}, "--calls-per-second: must be greater than 0, got '0'"),
    ],
)
def test_half_of_tls_is_refused(given: dict[str, object], problem: str) -> None:
    """The error names the settings that are missing."""
    assert problems_of(given) == (problem,)


def test_metrics_need_a_separate_port() -> None:
    """The metrics port must differ from the RPC port, unless both are 0."""
    given: dict[str, object] = {"listen": "127.0.0.1:9090", "metrics_listen": "127.0.0.1:9090"}
    (problem,) = problems_of(given)
    assert problem.startswith("--metrics-listen: must differ from listen")
    assert load_settings({"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}).metrics_listen


def test_the_fast_lane_needs_a_separate_port() -> None:
    """It must differ from the RPC port and the metrics port, unless both are 0; Unix sockets too."""
    for listen in ("127.0.0.1:9090", "unix:a.sock"):
        (problem,) = problems_of({"listen": listen, "fast_listen": listen})
        assert problem.startswith("--fast-listen: must differ from listen")
    (problem,) = problems_of({"metrics_listen": "127.0.0.1:9090", "fast_listen": "127.0.0.1:9090"})
    assert problem.startswith("--metrics-listen: must differ from fast_listen")
    assert load_settings({"listen": "127.0.0.1:0", "fast_listen": "127.0.0.1:0"}).fast_listen


@pytest.mark.parametrize(
    ("given", "lack"),
    [({}, "there is no TLS"), ({"tls_certificate": "c", "tls_key": "k"}, "callers need no credentials")],
)
def test_the_fast_lane_is_protected_like_the_other(given: dict[str, object], lack: str) -> None:
    """Beyond loopback it needs TLS and credentials, or --insecure, wherever the other address is."""
    with pytest.raises(SettingsError, match=rf"^0\.0\.0\.0:50052 is beyond loopback and {lack}"):
        check_listen(load_settings(given | {"fast_listen": "0.0.0.0:50052"}))
    check_listen(load_settings(given | {"fast_listen": "0.0.0.0:50052", "insecure": True}))
    check_listen(load_settings(given | {"fast_listen": "localhost:50052"}))
