"""`bandit-server audit`: who changed what, and what exactly."""

from collections.abc import Iterator, Mapping
from itertools import islice

import click
from google.protobuf.json_format import MessageToDict

from bandit.v1.admin_pb2 import AuditEntry, ListAuditEntriesResponse
from server.cli.connection import connected, json_option, server_option
from server.cli.console import local_time, print_json
from server.cli.help import Command

_LONGEST_VALUE = 60
_ABSENT = "-"


@click.command(cls=Command)
@click.option("--experiment", default="", metavar="NAME", help="Only what was done to this experiment.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many changes to show.",
)
@server_option
@json_option
def audit(experiment: str, limit: int, server: str, *, as_json: bool) -> None:
    """Show who changed what.

    The newest change comes first, with the values that it changed.
    """
    with connected(server) as client:
        entries = list(
            islice(client.admin.list_audit_entries(experiment=experiment, page_size=min(limit, 1000)), limit)
        )
    if as_json:
        print_json(ListAuditEntriesResponse(entries=entries))
        return
    for entry in entries:
        for line in _lines(entry):
            click.echo(line)


def _lines(entry: AuditEntry) -> Iterator[str]:
    """One line for the change, and one for each value that it changed in what stood before."""
    yield f"{local_time(entry.time)}  {entry.caller}  {entry.action}  {entry.experiment}".rstrip()
    if entry.HasField("before") and entry.HasField("after"):
        before, after = _flat(MessageToDict(entry.before)), _flat(MessageToDict(entry.after))
        for path in sorted(before.keys() | after.keys()):
            old, new = before.get(path, _ABSENT), after.get(path, _ABSENT)
            if old != new:
                yield f"    {path}: {old} -> {new}"


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Paths to values; the declaration's paths are those of an experiment file.

    >>> _flat({"declaration": {"limits": {"minimum_share": 0.05}, "arms": [{"id": "a"}]}})
    {'limits.minimum_share': '0.05', 'arms[0].id': 'a'}
    """
    flat: dict[str, str] = {}
    if isinstance(value, Mapping):
        for key, item in value.items():
            inner = "" if not path and key == "declaration" else f"{path}.{key}".lstrip(".")
            flat |= _flat(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            flat |= _flat(item, f"{path}[{index}]")
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        flat[path] = ascii(text)[1:-1][:_LONGEST_VALUE]
    return flat
