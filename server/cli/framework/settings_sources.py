"""Merging of settings from TOML file, environment and flags, each overriding the one before.

Invalid settings raise one `SettingsError` with a line for each bad value: where it was set, the rule, the
value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from server.environment import is_quoted
from server.services.runtime.input_files import InputFileError, parse_toml, printable, read_text, shown_value
from server.settings import ENVIRONMENT_PREFIX, Settings, SettingsError, SettingValues
from server.suggestions import did_you_mean

_MAX_UNKNOWN = 50
DEFAULT_FILE = Path("bandit-server.toml")
# From the user to the last @, since a password may hold one; also where a URL lacks a part of its ://.
_PASSWORD = re.compile(r"((?:^.*?://)?[^:@]*):(?!//).*@", re.DOTALL)
_SECRET_OPTION = re.compile(
    r"((?:^|(?<=[?&\s]))[^=&\s]*(?:password|secret|key)[^=&\s]*)\s*=.*?(?=&|\s\w+\s*=|$)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Raw values of one source; `label` is the template for where a setting was set."""

    values: Mapping[str, object]
    label: str

    def name(self, setting: str) -> str:
        return self.label.format(snake=setting, upper=setting.upper(), kebab=setting.replace("_", "-"))


_FLAGS = _Source(values={}, label="--{kebab}")
_Merged: TypeAlias = Mapping[str, tuple[object, _Source]]
_SettingsT = TypeVar("_SettingsT", bound=SettingValues)


def load_settings(flags: Mapping[str, object], config: Path | None = None) -> Settings:
    """Merge file, environment and flags, each overriding the one before.

    Args:
        flags: setting to value; None for a flag that was not given.
        config: the TOML file; None for `./bandit-server.toml` if it exists.

    Raises:
        SettingsError: the file can't be read, or values are invalid; lists all problems.
    """
    return _validated(Settings, _merged(flags, config))


def load_values(flags: Mapping[str, object], config: Path | None = None) -> SettingValues:
    """Merge the settings that a command has flags for, as `load_settings` does; all others are the defaults.

    Neither a bad value of another setting nor a rule between settings is an error: a backup or a copy can be
    read with the settings file of its server.

    Args:
        flags: as for `load_settings`; its keys are the settings that the command uses.
        config: as for `load_settings`.

    Raises:
        SettingsError: the file can't be read, or a value of these settings is invalid; lists all problems.
    """
    merged = _merged(flags, config)
    return _validated(SettingValues, {name: merged[name] for name in merged if name in flags})


def _merged(flags: Mapping[str, object], config: Path | None) -> _Merged:
    given = {name: value for name, value in flags.items() if value is not None}
    sources = (
        _file(config),
        _Source(values=EnvSettingsSource(Settings)(), label=ENVIRONMENT_PREFIX + "{upper}"),
        replace(_FLAGS, values=given),
    )
    quoted = [name for name, value in sources[1].values.items() if is_quoted(value)]
    if quoted:
        rule = "the quotation marks are part of the value: write it without them"
        raise SettingsError(*(f"{sources[1].name(name)}: {rule}" for name in quoted))
    return {name: (value, source) for source in sources for name, value in source.values.items()}


def _validated(kind: type[_SettingsT], merged: _Merged) -> _SettingsT:
    try:
        settings = kind.model_validate({name: value for name, (value, _) in merged.items()})
    except ValidationError as error:
        raise SettingsError(*(_line(details, merged) for details in error.errors())) from None
    by_default = dict.fromkeys(SettingValues.model_fields, (None, _FLAGS))
    settings.note_sources({name: source.name(name) for name, (_, source) in {**by_default, **merged}.items()})
    return settings


def _file(config: Path | None) -> _Source:
    path = config or DEFAULT_FILE
    label = str(path).replace("{", "{{").replace("}", "}}") + ": {snake}"
    if config is None and not path.exists():
        return _Source(values={}, label=label)
    try:
        values = parse_toml(read_text(path))
    except InputFileError as error:
        raise SettingsError(f"{path}: {error}") from None
    if unknown := sorted(values.keys() - Settings.model_fields.keys()):
        lines = [
            f"{path}: {printable(name)}: no such setting{did_you_mean(name, Settings.model_fields)}"
            for name in unknown[:_MAX_UNKNOWN]
        ]
        n_more = len(unknown) - len(lines)
        raise SettingsError(*lines, *([f"{path}: and {n_more:,} more unknown settings"] if n_more else []))
    return _Source(values=values, label=label)


def _line(details: ErrorDetails, merged: _Merged) -> str:
    context = details.get("ctx", {})
    name = str(details["loc"][0]) if details["loc"] else str(context["field"])
    rule = (
        str(context["error"]) if details["type"] == "value_error" else details["msg"].partition(", unable")[0]
    )
    rule = rule.replace("Input should be", "must be")
    if name not in merged:
        return f"{name}: {rule}"
    value, source = merged[name]
    shown = _without_secrets(value) if isinstance(value, str) else value
    return f"{source.name(name)}: {rule}, got {shown_value(shown)}"


def _without_secrets(value: str) -> str:
    """Return a value without the passwords of a URL."""
    return _SECRET_OPTION.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", value))
