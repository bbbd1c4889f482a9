"""What the TOML form of a message needs to know of its descriptor, for reading and writing alike."""

import re
from collections.abc import Mapping, Sequence
from typing import cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message


def fields(message: Message) -> Mapping[str, FieldDescriptor]:
    """Name to descriptor of the fields of `message`, in the order of their declaration."""
    declared = cast("Sequence[FieldDescriptor]", message.DESCRIPTOR.fields)
    return {field.name: field for field in declared}


def map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """What the values of a `map<key, value>` are, or None if `field` is no map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def choices(message: Message) -> tuple[str, ...]:
    """Field names, in order, of a message that is nothing but one choice of several, else empty."""
    oneofs, names = message.DESCRIPTOR.oneofs, tuple(fields(message))
    return names if len(oneofs) == 1 and len(oneofs[0].fields) == len(names) > 1 else ()


def enum_values(enum: EnumDescriptor) -> dict[str, int]:
    """Name as people write it to number, without the value that is never sent.

    `METRIC_KIND_BINARY` of `MetricKind` is `binary`.
    """
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
