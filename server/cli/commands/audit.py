"""`bandit-server audit`: who changed what, value by value."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice

import click

from bandit.number_text import exact
from bandit.v1.admin_pb2 import AuditEntry
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import local_time
from server.cli.framework.help import Command

_LONGEST_VALUE = 60
_ABSENT = "-"


@click.command(cls=Command)
@click.option("--experiment", default="", metavar="NAME", help="Only changes of this experiment.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of changes to show.",
)
@server_option
@json_option
def audit(experiment: str, limit: int, server: str, *, as_json: bool) -> None:
    """Show who changed what.

    Newest first, with the values that each change replaced.
    """
    with connected(server) as client:
        entries = list(
            islice(client.admin.list_audit_entries(experiment=experiment, page_size=min(limit, 1000)), limit)
        )
    if as_json:
        rows = {"entries": [_facts(entry) for entry in entries]}
        click.echo(json.dumps(rows, indent=2))
        return
    for entry in entries:
        for line in _lines(entry):
            click.echo(line)


def _facts(entry: AuditEntry) -> dict[str, object]:
    """Return an entry for JSON output, with `before` and `after` parsed."""
    return {
        "number": entry.number,
        "time": entry.time.ToJsonString(),
        "caller": entry.caller,
        "action": entry.action,
        "experiment": entry.experiment,
        "before": json.loads(entry.before) if entry.before else None,
        "after": json.loads(entry.after) if entry.after else None,
    }


def _lines(entry: AuditEntry) -> Iterator[str]:
    """Yield one line for the change, then one for each value that differs from the one before."""
    yield f"{local_time(entry.time)}  {entry.caller}  {entry.action}  {entry.experiment}".rstrip()
    if entry.before and entry.after:
        before, after = _flat(json.loads(entry.before)), _flat(json.loads(entry.after))
        for path in sorted(before.keys() | after.keys()):
            old, new = before.get(path, _ABSENT), after.get(path, _ABSENT)
            if old != new:
                yield f"    {path}: {old} -> {new}"


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Map paths to values; paths of the declaration are those of an experiment file.

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
        text = exact(value) if isinstance(value, float) else str(value)
        flat[path] = ascii(text)[1:-1][:_LONGEST_VALUE]
    return flat
