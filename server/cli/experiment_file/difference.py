"""Differences between two versions of an experiment, one line for each key.

Arms are identified by id and metrics by name, so `arms.v2.taken_out` is the same key wherever the arm is in
the file; `arms."gpt-4.1".taken_out`, as TOML quotes it.
"""

from dataclasses import dataclass

from bandit.v1.experiment_pb2 import Experiment
from server.cli.experiment_file.file import to_file_table
from server.cli.experiment_file.toml_writer import TomlTable, TomlValue, inline, quoted_key

_IDENTITY = {"arms": "id", "metrics": "name"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key that differs. Values are TOML, or None where the key is missing."""

    path: str
    before: str | None
    after: str | None

    @property
    def sign(self) -> str:
        """`+` for a new key, `-` for a removed one, `~` for a changed value."""
        return "+" if self.before is None else "-" if self.after is None else "~"

    @property
    def text(self) -> str:
        """The value, or the old and the new one."""
        return " → ".join(value for value in (self.before, self.after) if value is not None)


def changes(before: Experiment, after: Experiment) -> list[Change]:
    """Return every key that differs, in the order of the file; empty if the experiments are equal."""
    old, new = _flat(before), _flat(after)
    keys = [
        Change(path=path, before=old.get(path), after=new.get(path))
        for path in dict.fromkeys((*old, *new))
        if old.get(path) != new.get(path)
    ]
    return [*keys, *_moves(before, after)]


def _moves(before: Experiment, after: Experiment) -> list[Change]:
    """Return changes in the order of arms and metrics, among those in both versions."""
    found = []
    for key in _IDENTITY:
        old, new = _names(before, key), _names(after, key)
        was, now = [name for name in old if name in new], [name for name in new if name in old]
        if was != now:
            found.append(Change(path=f"order of {key}", before=", ".join(was), after=", ".join(now)))
    return found


def _names(experiment: Experiment, key: str) -> list[str]:
    return [getattr(item, _IDENTITY[key]) for item in getattr(experiment, key)]


def _flat(experiment: Experiment) -> dict[str, str]:
    """Map the path of every key to its value."""
    flat: dict[str, str] = {}
    for key, value in to_file_table(experiment).items():
        if key in _IDENTITY and isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    name = quoted_key(str(item.get(_IDENTITY[key], "")))
                    _flatten(_without(item, _IDENTITY[key]), f"{key}.{name}", flat)
        else:
            _flatten(value, key, flat)
    return flat


def _without(table: TomlTable, key: str) -> TomlTable:
    return {name: value for name, value in table.items() if name != key}


def _flatten(value: TomlValue, path: str, flat: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(item, f"{path}.{quoted_key(key)}", flat)
    else:
        flat[path] = inline(value)
