"""Conversion from a protobuf message to the TOML table that `decode.fill` reads, in a stable order.

Fields at their defaults are left out, as on the wire.
"""

from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct

from server.cli.experiment_file.descriptors import enum_values, map_value, named_choices
from server.cli.experiment_file.durations import format_duration
from server.cli.experiment_file.toml_writer import TomlTable, TomlValue


def to_table(message: Message) -> TomlTable:
    """Return the fields that are set, in the order of their numbers; keys of maps are sorted."""
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: FieldDescriptor, value: object) -> TomlValue:
    item = map_value(field)
    if item is not None and isinstance(value, Mapping):
        return {str(key): _single(item, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_single(field, item) for item in value]  # type: ignore[attr-defined]
    return _single(field, value)


def _single(field: FieldDescriptor, value: object) -> TomlValue:
    match value:
        case Duration():
            return format_duration(value)
        case Struct():
            return _struct(value)
        case Message():
            return _message(value)
        case int() if field.enum_type is not None:
            names = {number: name for name, number in enum_values(field.enum_type).items()}
            return names.get(value, value)
        case bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"{field.full_name}: no TOML form for {type(value).__name__}")


def _message(message: Message) -> TomlValue:
    """Return a table, or the bare name of a choice whose own fields are all unset."""
    set_fields = message.ListFields()
    if named_choices(message) and set_fields and not set_fields[0][1].ListFields():
        return str(set_fields[0][0].name)
    return to_table(message)


def _struct(struct: Struct) -> TomlTable:
    return {key: _json(struct[key]) for key in sorted(struct)}


def _json(value: object) -> TomlValue:
    match value:
        case Struct():
            return _struct(value)
        case ListValue():
            return [_json(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__}")
