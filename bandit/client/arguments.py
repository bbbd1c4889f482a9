"""What is wrong with an argument: its path, its value and type, and what is wanted in its place.

Requests are built by protobuf, which checks every value and names none. Only after it has refused a request
are the fields tried one by one, so that a correct call pays nothing. A value of a wrong type is a bug in the
program: a TypeError. A value that the wire can't carry may come from a user: an InvalidArgumentError with its
field, as the service would have answered.

What protobuf takes is taken: numpy's and other numbers that convert to float as outcomes, bool as a number,
subclasses of str (enums too) and UTF-8 bytes as text.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, SupportsFloat, TypeVar, cast

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bandit.client.errors import CallError, FieldViolation, call_error
from bandit.wrong_types import shown, wrong_type

MessageT = TypeVar("MessageT", bound=Message)

LONGEST_SECONDS: Final = 1e8
"""Three years: gRPC answers a call with a much longer deadline as if it had passed already."""

_LONGEST_KEY: Final = 80
_REQUIRED: Final = frozenset({"id", "name", "winner"})  # protobuf takes None for any field, as nothing
_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def invalid_value(path: str, value: object, rule: str) -> CallError:
    """Return the InvalidArgumentError of a value that can't be sent."""
    description = f"{shown(value)}: {rule}"
    violations = (FieldViolation(path, description),)
    return call_error(grpc.StatusCode.INVALID_ARGUMENT, f"{path}: {description}", field_violations=violations)


def duration(name: str, value: object, unit: str = "seconds") -> float:
    """Return a duration of the client as a float.

    Raises:
        TypeError: it is not a number.
        ValueError: it is not positive and finite.
    """
    seconds = _number(name, value, unit)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name} must be more than zero and finite, got {shown(value)}")
    return min(seconds, LONGEST_SECONDS)


def call_seconds(value: float) -> float:
    """Return the timeout of one call, in seconds; one that is not positive has run out.

    Raises:
        TypeError: it is not a number.
        InvalidArgumentError: it is not finite.
    """
    seconds = value if type(value) is float else _number("timeout", value, "seconds")
    if not math.isfinite(seconds):
        raise invalid_value("timeout", value, "it must be a finite number of seconds")
    return min(seconds, LONGEST_SECONDS)


def channel_options(options: object) -> tuple[tuple[str, str | int], ...]:
    """Return channel options as pairs; TypeError if one is none, which gRPC would find at the first call."""
    if isinstance(options, str | bytes) or not isinstance(options, Iterable):
        raise wrong_type("options", options, "a sequence of pairs of a str and a str or an int")
    pairs = tuple(options.items() if isinstance(options, Mapping) else options)
    for position, pair in enumerate(pairs):
        match pair:
            case (str() | bytes(), value) if _is_option(value):
                continue
        raise wrong_type(f"options[{position}]", pair, "a pair of a str and a str or an int of 32 bits")
    return pairs


def build(kind: type[MessageT], /, called: Mapping[str, str] | None = None, **fields: object) -> MessageT:
    """Return a message of these fields.

    Args:
        kind: the message.
        called: the caller's words for fields, where they differ from the wire's.
        fields: the values.

    Raises:
        TypeError: a field has a value of a wrong type.
        InvalidArgumentError: a value can't be encoded.
    """
    for name, value in fields.items():
        if value is None:
            field = cast("FieldDescriptor", kind.DESCRIPTOR.fields_by_name[name])
            _require_given(field, (called or {}).get(name, name))
    try:
        return cast("Callable[..., MessageT]", kind)(**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal(kind, fields, error, called=called) from error


def refusal(
    kind: type[Message],
    fields: Mapping[str, object],
    error: Exception,
    *,
    prefix: str = "",
    called: Mapping[str, str] | None = None,
) -> TypeError | CallError:
    """Return the error that names what protobuf refused with `error`, by trying each field alone."""
    for name, value in fields.items():
        path = prefix + (called or {}).get(name, name)
        field = cast("FieldDescriptor | None", kind.DESCRIPTOR.fields_by_name.get(name))
        if field is None:
            return TypeError(f"{path} is not a field of {kind.DESCRIPTOR.name}")
        found = _find_in_field(field, path, value)
        if found is not None:
            return found
    for name, value in fields.items():
        if isinstance(value, Iterator):  # which protobuf has used up, with the item that it refused
            path = prefix + (called or {}).get(name, name)
            field = cast("FieldDescriptor", kind.DESCRIPTOR.fields_by_name[name])
            return wrong_type(path, value, _wanted_all(field))
    if isinstance(error, TypeError):
        return TypeError(f"{prefix or kind.DESCRIPTOR.name}: {error}")
    return call_error(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _require_given(field: FieldDescriptor, path: str) -> None:
    """Raise TypeError for None where nothing has no meaning: an object to act on, or its name."""
    is_one_message = field.message_type is not None and not isinstance(field.default_value, list)
    if field.name in _REQUIRED or is_one_message:
        raise wrong_type(path, None, _wanted(field))


def _is_option(value: object) -> bool:
    if isinstance(value, int):
        return -(2**31) <= value < 2**31
    return isinstance(value, str | bytes) or hasattr(value, "__int__")  # as gRPC's session cache has


def _number(name: str, value: object, unit: str) -> float:
    if isinstance(value, str | bytes):  # which `float` would read
        raise wrong_type(name, value, f"a number of {unit}")
    try:
        return float(cast("SupportsFloat", value))
    except (TypeError, ValueError) as error:
        raise wrong_type(name, value, f"a number of {unit}") from error
    except OverflowError:
        return math.inf


def _find_in_field(field: FieldDescriptor, path: str, value: object) -> TypeError | CallError | None:
    """Return what is wrong with a field; None if protobuf takes it."""
    error = _try(field, value)
    if error is None:
        return None
    if _is_map(field):
        return _find_in_map(field, path, value)
    if isinstance(field.default_value, list):
        return _find_in_list(field, path, value)
    return _verdict(field, path, value, error)


def _find_in_map(field: FieldDescriptor, path: str, value: object) -> TypeError | CallError | None:
    entry = cast("Descriptor", field.message_type)
    of_key, of_item = entry.fields_by_name["key"], entry.fields_by_name["value"]
    if not isinstance(value, Mapping):
        return wrong_type(path, value, _wanted_all(field))
    for key, item in value.items():
        error = _try_entry(of_key, key)
        if error is not None:
            return _verdict(of_key, f"a key of {path}", key, error)
        error = _try_entry(of_item, item)
        if error is not None:
            return _verdict(of_item, f"{path}[{_quoted(key)}]", item, error)
    return None


def _find_in_list(field: FieldDescriptor, path: str, value: object) -> TypeError | CallError | None:
    if not isinstance(value, Iterable):
        return wrong_type(path, value, _wanted_all(field))
    for position, item in enumerate(value):
        error = _try(field, [item])
        if error is not None:
            return _verdict(field, f"{path}[{position}]", item, error)
    return None


def _verdict(field: FieldDescriptor, path: str, value: object, error: Exception) -> TypeError | CallError:
    """Return the error for one value, of one field, that protobuf refuses."""
    if field.message_type is not None and isinstance(value, Mapping):
        return refusal(GetMessageClass(field.message_type), value, error, prefix=f"{path}.")
    if isinstance(error, TypeError) or field.message_type is not None:
        return wrong_type(path, value, _wanted(field))
    if isinstance(error, UnicodeError):
        rule = "it must be text that UTF-8 can encode, without unpaired surrogates"
    elif isinstance(error, OverflowError):
        rule = "it is too large for a float"
    elif field.cpp_type in _INTEGERS:
        low, high = _INTEGERS[field.cpp_type]
        rule = f"it must be in [{low}, {high}]"
    elif field.enum_type is not None:
        rule = f"it must be {_wanted(field)}"
    else:
        rule = str(error)
    return invalid_value(path, value, rule)


def _wanted_all(field: FieldDescriptor) -> str:
    """Say what a field takes that holds many values, or entries of a map."""
    if not _is_map(field):
        return f"a collection, each {_wanted(field)}"
    entry = cast("Descriptor", field.message_type).fields_by_name
    return f"a mapping, each key {_wanted(entry['key'])} and each value {_wanted(entry['value'])}"


def _wanted(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(field.enum_type.values_by_name)}"
    if field.message_type is not None:
        return f"a message {field.message_type.name} or a dict of its fields"
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return "a str"
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return "a number"
        case FieldDescriptor.CPPTYPE_BOOL:
            return "a bool"
        case _:
            return "an int"


def _try(field: FieldDescriptor, value: object) -> Exception | None:
    """Return why protobuf refuses a value of this field alone; None if it takes it."""
    kind = GetMessageClass(cast("Descriptor", field.containing_type))
    try:
        cast("Callable[..., Message]", kind)(**{field.name: value})
    except (TypeError, ValueError, OverflowError) as error:
        return error
    return None


def _try_entry(field: FieldDescriptor, value: object) -> Exception | None:
    """As `_try`, of a key or a value of a map, where None is not the default."""
    if value is None:
        return TypeError()
    return _try(field, value)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _quoted(key: object) -> str:
    """Return a key of a mapping for a path, such as `"click"`."""
    text = str(key)
    return json.dumps(text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}...")
