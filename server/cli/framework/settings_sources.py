"""Merging of settings from TOML file, environment and flags, each overriding the one before.

Invalid settings raise one `SettingsError` with a line for each bad value: where it was set, the rule, the
value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from server.services.runtime.input_files import InputFileError, parse_toml, printable, read_text, shown_value
from server.services.runtime.suggestions import did_you_mean
from server.settings import ENVIRONMENT_PREFIX, Settings, SettingsError

_MAX_UNKNOWN = 50
DEFAULT_FILE = Path("bandit-server.toml")
_PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):[^@\s]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Raw values of one source; `label` is the template for where a setting was set."""

    values: Mapping[str, object]
    label: str

    def name(self, setting: str) -> str:
        return self.label.format(snake=setting, upper=setting.upper(), kebab=setting.replace("_", "-"))


def load_settings(flags: Mapping[str, object], config: Path | None = None) -> Settings:
    """Merge file, environment and flags, each overriding the one before.

    Args:
        flags: setting to value; None for a flag that was not given.
        config: the TOML file; None for `./bandit-server.toml` if it exists.

    Raises:
        SettingsError: the file can't be read, or values are invalid; lists all problems.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    sources = (
        _file(config),
        # Unknown BANDIT_ variables are ignored: Kubernetes sets some for any service called bandit.
        _Source(values=EnvSettingsSource(Settings)(), label=ENVIRONMENT_PREFIX + "{upper}"),
        _Source(values=given, label="--{kebab}"),
    )
    merged = {name: (value, source) for source in sources for name, value in source.values.items()}
    try:
        return Settings.model_validate({name: value for name, (value, _) in merged.items()})
    except ValidationError as error:
        raise SettingsError(*(_line(details, merged) for details in error.errors())) from None


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


def _line(details: ErrorDetails, merged: Mapping[str, tuple[object, _Source]]) -> str:
    context = details.get("ctx", {})
    name = str(details["loc"][0]) if details["loc"] else str(context["field"])
    rule = (
        str(context["error"]) if details["type"] == "value_error" else details["msg"].partition(", unable")[0]
    )
    rule = rule.replace("Input should be", "must be")
    if name not in merged:
        return f"{name}: {rule}"
    value, source = merged[name]
    shown = _PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) else value
    return f"{source.name(name)}: {rule}, got {shown_value(shown)}"
