"""Conversion from a TOML table to a protobuf message, guided by the message's descriptor.

Keys are field names. An enum is its value in lower case without the type's prefix, a duration is text such as
`"1h30m"`, and a message that is one choice of several may be the bare name of the choice:
`policy = "thompson_sampling"`. One pass finds all problems, each with its path and the rule.
"""

import math
import sys
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from server.cli.experiment_file.descriptors import (
    choices,
    enum_values,
    fields,
    map_value,
    named_choices,
)
from server.cli.experiment_file.durations import parse_duration
from server.cli.experiment_file.toml_writer import inline, quoted_key
from server.services.runtime.input_files import printable
from server.suggestions import did_you_mean

_INTEGER_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_EXACT_INTEGER = 2**53
_MAX_PROBLEMS = 50
_MAX_PAYLOAD_LEVELS = 98
"""Levels that are left for a payload of the 100 nested messages that protobuf's readers allow. A table takes
three, an array two, so tables can be nested 32 deep, the payload itself included."""
_TABLE_LEVELS, _ARRAY_LEVELS = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem with one value; `path` has the form of the service's field violations."""

    path: str
    text: str


def fill(message: Message, table: Mapping[str, object]) -> list[Problem]:
    """Set the fields of `message` that `table` names; return the problems, in the table's order.

    If there are any, the message is left partly filled.
    """
    reader = _Reader()
    reader.fill(message, table, "")
    if reader.n_more:
        reader.problems.append(Problem(path="", text=f"and {reader.n_more:,} more problems"))
    return reader.problems


class _Reader:
    """One pass over a table. After `_MAX_PROBLEMS` problems, the others are only counted, in `n_more`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.n_more = 0

    def fill(self, message: Message, table: Mapping[str, object], path: str) -> None:
        valid, names = fields(message), choices(message)
        for key, value in table.items():
            shown_key = printable(quoted_key(key))
            inner = f"{path}.{shown_key}" if path else shown_key
            if key in valid:
                with self._adding_problems(inner, value):
                    self._set(message, valid[key], value, inner)
            else:
                hint = did_you_mean(key, valid) or f"; there are {', '.join(valid)}"
                self._add_problem(inner, f"no such key{hint}")
        if names and len(table.keys() & set(names)) != 1:
            self._add_problem(path, f"must have exactly one of {', '.join(names)}")

    def _add_problem(self, path: str, text: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(Problem(path=path, text=text))
        else:
            self.n_more += 1

    @contextmanager
    def _adding_problems(self, path: str, value: object) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            self._add_problem(path, f"{error}, got {printable(inline(value))}")

    def _set(self, message: Message, field: FieldDescriptor, value: object, path: str) -> None:
        item = map_value(field)
        if item is not None:
            self._set_map(getattr(message, field.name), item, value, path)
        elif field.is_repeated and field.message_type is None:
            self._set_numbers(getattr(message, field.name), field, value, path)
        elif field.is_repeated:
            self._set_array(getattr(message, field.name), value, path)
        elif field.message_type is not None:
            self._set_message(getattr(message, field.name), value, path)
        else:
            setattr(message, field.name, _scalar(field, value))

    def _set_map(
        self, entries: MutableMapping[str, object], field: FieldDescriptor, value: object, path: str
    ) -> None:
        for key, item in _table(value).items():
            inner = f"{path}[{printable(inline(key))}]"
            with self._adding_problems(inner, item):
                entries[key] = _scalar(field, item)

    def _set_numbers(
        self, items: MutableSequence[object], field: FieldDescriptor, value: object, path: str
    ) -> None:
        if not isinstance(value, list):
            raise _RuleError("must be an array, [0.05, 0.1]")
        for index, item in enumerate(value):
            with self._adding_problems(f"{path}[{index}]", item):
                items.append(_scalar(field, item))

    def _set_array(self, items: RepeatedCompositeFieldContainer[Message], value: object, path: str) -> None:
        if not isinstance(value, list):
            raise _RuleError(f"must be an array of tables, [[{path}]]")
        for index, item in enumerate(value):
            inner = f"{path}[{index}]"
            with self._adding_problems(inner, item):
                self._set_message(items.add(), item, inner)

    def _set_message(self, message: Message, value: object, path: str) -> None:
        message.SetInParent()
        names = named_choices(message)
        match message:
            case Duration():
                message.CopyFrom(parse_duration(_string(value, 'a duration such as "30s", "15m" or "7d"')))
            case Struct():
                self._set_struct(message, _table(value), path)
            case _ if names and isinstance(value, str):
                if value not in names:
                    raise _RuleError(f"must be one of {', '.join(names)}")
                getattr(message, value).SetInParent()
            case _:
                self.fill(message, _table(value), path)

    def _set_struct(self, struct: Struct, table: dict[str, object], path: str) -> None:
        n_before = len(self.problems)
        self._check_json(table, path, _MAX_PAYLOAD_LEVELS)
        if len(self.problems) == n_before:
            ParseDict(table, struct)

    def _check_json(self, value: object, path: str, n_levels: int) -> None:
        """Add a problem for values that a Struct refuses or rounds; `n_levels` are left for nested values."""
        match value:
            case dict() | list() if n_levels < (_TABLE_LEVELS if isinstance(value, dict) else _ARRAY_LEVELS):
                self._add_problem(
                    path, "is nested too deeply: at most 32 tables, or 47 arrays, within one another"
                )
            case dict():
                for key, item in value.items():
                    inner = f"{path}.{printable(quoted_key(key))}"
                    self._check_json(item, inner, n_levels - _TABLE_LEVELS)
            case list():
                for index, item in enumerate(value):
                    self._check_json(item, f"{path}[{index}]", n_levels - _ARRAY_LEVELS)
            case int() | float():
                with self._adding_problems(path, value):
                    _check_json_number(value)
            case str():
                pass
            case _:
                self._add_problem(path, f"must be a JSON value: write {value} as a string")


class _RuleError(ValueError):
    """A value that breaks a rule; the text is the rule."""


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _RuleError("must be a table")
    return value


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _RuleError(f"must be {what}")
    return value


def _scalar(field: FieldDescriptor, value: object) -> object:
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return _string(value, "a string")
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return _double(value)
        case kind if kind in _INTEGER_RANGES:
            return _integer(value, *_INTEGER_RANGES[kind])
        case _ if isinstance(value, bool):
            return value
        case _:
            raise _RuleError("must be true or false")


def _enum(enum: EnumDescriptor, value: object) -> int:
    values = enum_values(enum)
    if not isinstance(value, str) or value not in values:
        raise _RuleError(f"must be one of {', '.join(map(inline, values))}")
    return values[value]


def _double(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _RuleError("must be a number")
    # Not isfinite: an integer of TOML can be larger than any float.
    if not abs(value) <= sys.float_info.max:
        raise _RuleError("must be a finite number")
    return float(value)


def _integer(value: object, smallest: int, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise _RuleError(f"must be a whole number from {smallest:,} to {largest:,}")
    return value


def _check_json_number(value: float) -> None:
    if isinstance(value, int) and abs(value) > _EXACT_INTEGER:
        raise _RuleError("must be at most 2^53, or JSON rounds it: write it as a string")
    if not math.isfinite(value):
        raise _RuleError("must be a finite number")
