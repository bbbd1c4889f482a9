"""Flags for settings, whose help, default and range are declared once, in `Settings`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import annotated_types
import click
from pydantic.fields import FieldInfo

from server.cli.framework.settings_sources import DEFAULT_FILE
from server.settings import Settings

_FunctionT = TypeVar("_FunctionT", bound=Callable[..., int | None])


def setting_option(name: str, metavar: str = "") -> Callable[[_FunctionT], _FunctionT]:
    """Return a flag for the setting `name`; without it, file and environment apply."""
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    if field.annotation is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(flag, name, default=None, metavar=metavar or None, help=_help(field))


def config_option(function: _FunctionT) -> _FunctionT:
    """Add `--config` to a command."""
    option = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"TOML file of settings.  [default: {DEFAULT_FILE}, if it exists]",
    )
    return option(function)


def _help(field: FieldInfo) -> str:
    facts = [_default(field.default), _range(field)]
    return f"{field.description}  [{'; '.join(fact for fact in facts if fact)}]"


def _default(value: object) -> str:
    match value:
        case None:
            return "default: none"
        case bool():
            return f"default: {'yes' if value else 'no'}"
        case int() | float():
            return f"default: {value:_.12g}"
        case _:
            return f"default: {value}"


def _range(field: FieldInfo) -> str:
    lower = upper = ""
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge(ge=bound):
                lower = f"from {bound:_}"
            case annotated_types.Gt(gt=bound):
                lower = f"above {bound:_}"
            case annotated_types.Le(le=bound):
                upper = f"to {bound:_}"
    return f"{lower} {upper}".strip()
