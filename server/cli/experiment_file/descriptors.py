"""Lookups in message descriptors that reading and writing TOML share."""

import re
from collections.abc import Mapping, Sequence
from typing import cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message


def fields(message: Message) -> Mapping[str, FieldDescriptor]:
    """Map names to descriptors of the fields of `message`, in the order of declaration."""
    declared = cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)
    return {field.name: field for field in declared}


def map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """Return the descriptor of the values of a `map<key, value>`, or None if `field` is not a map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def choices(message: Message) -> tuple[str, ...]:
    """Return the field names, in order, of a message that is a single oneof; otherwise an empty tuple."""
    oneofs, names = message.DESCRIPTOR.oneofs, tuple(fields(message))
    return names if len(oneofs) == 1 and len(oneofs[0].fields) == len(names) > 1 else ()


def named_choices(message: Message) -> tuple[str, ...]:
    """Return the choices that are messages, which a file may give by their bare names."""
    valid = fields(message)
    return tuple(name for name in choices(message) if valid[name].message_type is not None)


def enum_values(enum: EnumDescriptor) -> dict[str, int]:
    """Map the names of values in a file to their numbers, without the value 0, which is never sent.

    `METRIC_KIND_BINARY` of `MetricKind` is `binary`.
    """
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
