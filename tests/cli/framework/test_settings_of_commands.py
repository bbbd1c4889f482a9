"""Settings of commands: each takes the settings that its errors name, and no other setting stops it."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click
import pytest

from server import settings
from server.app import clock_maintenance, maintenance, webhooks
from server.cli.framework.settings_sources import DEFAULT_FILE, load_settings, load_values
from server.cli.main import cli
from server.settings import Settings, SettingsError, SettingValues

POSTGRESQL = "postgresql+psycopg://user@host/name"
BROKEN_RULES: Final[tuple[Mapping[str, object], ...]] = (
    {"lag_seconds": 0.5, "poll_seconds": 60.0},
    {"max_staleness_seconds": 1.0, "poll_seconds": 2.0},
    {"retention_seconds": 10.0, "purge": True},
    {"snapshot": "/s"},
    {"keys": "/k", "database": POSTGRESQL},
    {"snapshot": "/s", "keys": "/k"},
    {"workers": 4},
    {"metrics_listen": "127.0.0.1:50051"},
    {"fast_listen": "127.0.0.1:50051"},
    {"fast_listen": "unix:s", "workers": 4, "database": POSTGRESQL},
    {"fast_listen": "127.0.0.1:9090", "metrics_listen": "127.0.0.1:9090"},
    {"metrics_listen": "127.0.0.1:65535", "workers": 4, "database": POSTGRESQL},
    {"tls_certificate": "/c"},
    {"tls_key": "/k"},
    {"tls_client_ca": "/c"},
)
"""Settings that a server refuses, since one needs another."""

WORK: Final[Mapping[str, Callable[..., object]]] = {
    "verify": maintenance.verify,
    "rebuild": maintenance.rebuild,
    "backup": maintenance.back_up,
    "export": maintenance.export,
    "clock show": clock_maintenance.show_clock,
    "clock accept": clock_maintenance.accept_clock,
    "clock repair": clock_maintenance.repair_clock,
    "webhooks list": webhooks.list_deliveries,
    "webhooks resend": webhooks.resend_deliveries,
}
"""What commands do with the settings that they take."""


def taken(command: click.Command = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield the path of each command that takes settings, and their names."""
    names = [each.name for each in command.params if each.name in Settings.model_fields]
    if names:
        yield " ".join(path), names
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from taken(child, (*path, name))


COMMANDS = dict(taken())


def write(values: Mapping[str, object]) -> None:
    """Write the settings file that commands find."""
    DEFAULT_FILE.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))


def test_serve_takes_every_setting() -> None:
    """So every error of a rule names options that it has."""
    assert set(COMMANDS["serve"]) == set(Settings.model_fields)


def test_every_rule_is_tried() -> None:
    """The examples break rules of the server, and all that its source has."""
    named = set()
    for values in BROKEN_RULES:
        with pytest.raises(SettingsError) as caught:
            load_settings(values)
        named |= {problem.partition(":")[0].removeprefix("--") for problem in caught.value.problems}
    source = inspect.getsource(settings)
    literal = {name.replace("_", "-") for name in re.findall(r'_rule\(\s*"(\w+)"', source)}
    assert named >= literal | {"lag-seconds", "max-staleness-seconds", "tls-key", "keys"}


@pytest.mark.parametrize("values", BROKEN_RULES, ids=" ".join)
@pytest.mark.parametrize("command", sorted(WORK))
def test_a_rule_of_the_server_stops_no_other_command(command: str, values: Mapping[str, object]) -> None:
    """Other commands take their settings from a file in which two settings do not fit each other."""
    write(values)
    found = load_values(dict.fromkeys(COMMANDS[command]))
    for name in Settings.model_fields:
        default = Settings.model_fields[name].default
        assert getattr(found, name) == (values.get(name, default) if name in COMMANDS[command] else default)


@pytest.mark.parametrize("command", sorted(WORK))
def test_an_error_names_a_setting_that_the_command_takes(command: str) -> None:
    """A value out of range is an error of the commands that take the setting, and of no other."""
    for name in Settings.model_fields:
        write({name: [1]})
        flags = dict.fromkeys(COMMANDS[command])
        if name in flags:
            with pytest.raises(SettingsError, match=rf"^bandit-server\.toml: {name}: "):
                load_values(flags)
        else:
            assert load_values(flags) == SettingValues()


def test_commands_use_no_setting_that_they_do_not_take() -> None:
    """What the work of a command reads of the settings, the command has options for."""
    assert WORK.keys() == COMMANDS.keys() - {"serve"}
    for command, work in WORK.items():
        assert set(re.findall(r"\bsettings\.(\w+)", inspect.getsource(work))) <= set(COMMANDS[command]), (
            command
        )


def test_export_takes_a_short_lag_without_a_poll() -> None:
    """`--lag-seconds 0.5` needs no option that the command does not have."""
    assert load_values({"database": None, "lag_seconds": "0.5"}).lag_seconds == 0.5


def test_an_unknown_setting_is_an_error_everywhere() -> None:
    """A mistyped `tokens` must not open a server, so a file with one is used for nothing."""
    write({"tokns": "/t"})
    for load in (load_settings, load_values):
        with pytest.raises(SettingsError, match=r"tokns: no such setting; did you mean tokens\?"):
            load({})


def test_quotation_marks_of_an_env_file_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docker's --env-file keeps them; the error names the variable, before anything reads the value."""
    monkeypatch.setenv("BANDIT_TOKENS", f'"{tmp_path}/tokens.toml"')
    rule = "BANDIT_TOKENS: the quotation marks are part of the value: write it without them"
    with pytest.raises(SettingsError, match=rule):
        load_settings({})
