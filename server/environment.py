"""Environment variables that look meant for this program, and that it does not read as they stand.

A variable that is close to none that is known stays silent: others may begin with BANDIT_, too, and for a
service called bandit Kubernetes sets BANDIT_PORT, BANDIT_SERVICE_HOST and more in every pod.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from server.services.runtime.input_files import printable
from server.settings import ENVIRONMENT_PREFIX, SettingValues

COMMAND_VARIABLES: Final = frozenset(
    f"{ENVIRONMENT_PREFIX}{name}"
    for name in ("SERVER", "TLS", "CA", "CERTIFICATE", "KEY", "TOKEN", "TOKEN_FILE")
)
"""What commands read that call a server; unlike settings, only in capitals."""

_SETTINGS: Final = frozenset(f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in SettingValues.model_fields)
_KNOWN: Final = sorted(name.removeprefix(ENVIRONMENT_PREFIX) for name in _SETTINGS | COMMAND_VARIABLES)
_CLOSENESS: Final = 0.7
"""LOGLEVEL, DRAIN_SECS and DATABASE_URL are as close to what they mean; IMAGE is less close to MIGRATE."""

_STEM: Final = 4
"""So many letters of a longer name, such as TLS_CERT and POLL, are not somebody else's."""

_LONGEST: Final = 128
_ACCESS: Final = frozenset(
    f"{ENVIRONMENT_PREFIX}{name}" for name in ("TOKENS", "TLS_CERTIFICATE", "TLS_KEY", "TLS_CLIENT_CA")
)
_KUBERNETES: Final = re.compile(
    r"BANDIT(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.ASCII,
)
_OTHER_NAMES: Final = {f"{ENVIRONMENT_PREFIX}PORT": "LISTEN", f"{ENVIRONMENT_PREFIX}DB": "DATABASE"}
"""Names that other services use. A number as the port is not from Kubernetes, which sets a URL."""

_CONFIG: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
_COMMENT: Final = re.compile(r"\s#")
_QUOTED: Final = re.compile(r"""(["']).*\1""", re.DOTALL)


def doubtful_variables(environment: Mapping[str, str], *, is_server: bool = False) -> list[str]:
    """Return a sentence for each variable that is probably mistyped, or not set as it was meant.

    Args:
        environment: Name to value.
        is_server: Whether an empty variable leaves a server without the protection that it names.
    """
    names = sorted(name for name in environment if name.upper().startswith(ENVIRONMENT_PREFIX))
    sentences = [sentence for name in names for sentence in _doubts(name, environment[name])]
    empty = [name for name in names if is_server and name.upper() in _ACCESS and not environment[name]]
    return [*sentences, *(f"{name} is empty, so it counts as not set: give it a file" for name in empty)]


def is_quoted(value: object) -> bool:
    """True if a value begins and ends with the same quotation mark, as docker's --env-file leaves it."""
    return isinstance(value, str) and _QUOTED.fullmatch(value) is not None


def _doubts(name: str, value: str) -> Iterator[str]:
    shown = printable(name)
    is_read = name in COMMAND_VARIABLES or name.upper() in _SETTINGS
    if is_read and _COMMENT.search(value):
        yield f"{shown}: the comment behind it is part of its value: give it a line of its own"
    if name.upper() in _SETTINGS:
        return
    if name in COMMAND_VARIABLES:
        if is_quoted(value):
            yield f"{shown}: the quotation marks are part of its value: write it without them"
    elif name.upper() == _CONFIG:
        yield f"{shown} is not read: name the settings file with --config"
    elif name.upper() in _OTHER_NAMES and "://" not in value:
        yield f"{shown} is not read; did you mean {ENVIRONMENT_PREFIX}{_OTHER_NAMES[name.upper()]}?"
    elif not _KUBERNETES.fullmatch(name):
        written = name.upper().removeprefix(ENVIRONMENT_PREFIX)
        near = get_close_matches(written[:_LONGEST], _KNOWN, n=1, cutoff=_CLOSENESS)
        if near := near or [known for known in _KNOWN if known.startswith(written) and len(written) >= _STEM]:
            yield f"{shown} is not read; did you mean {ENVIRONMENT_PREFIX}{near[0]}?"
