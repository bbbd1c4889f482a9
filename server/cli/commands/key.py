"""`bandit-server key`: the keys that sign decisions."""

from collections.abc import Sequence

import click
from google.protobuf.timestamp_pb2 import Timestamp

from bandit.v1.admin_pb2 import DecisionKey, DecisionKeyState, ListDecisionKeysResponse
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import local_time, output_console, print_json
from server.cli.framework.help import Group
from server.cli.framework.tables import plain_table, print_table
from server.standard_streams import note_done

_LONGEST_ROTATION = 120.0
"""Seconds. A server that polls once a minute answers after a minute and a half."""


@click.group(cls=Group)
def key() -> None:
    """Rotate, revoke and list the keys that sign decisions.

    A decision's id is signed, so that any server can credit a reward to it. A new key signs from its rotation
    on; decisions signed before stay valid until they expire.
    """


@key.command()
@server_option
@json_option
def rotate(server: str, *, as_json: bool) -> None:
    """Create a new key that signs decisions.

    Returns once every server that reaches the database has the key; each signs with it from its next poll
    on. No server needs a restart, and earlier decisions stay valid.
    """
    with connected(server) as client:
        keys = client.admin.rotate_decision_key(timeout=_LONGEST_ROTATION)
    note_done("the key is rotated")
    _print(keys, as_json=as_json)


@key.command()
@click.argument("key_id", metavar="KEY", type=click.IntRange(0, 255))
@server_option
@json_option
def revoke(key_id: int, server: str, *, as_json: bool) -> None:
    """Revoke a key that has leaked and was replaced.

    Every decision that it signed is refused from then on, like a forged one: open decisions can't be rewarded
    any more, and rewards can't be repeated. Recorded outcomes stay.

    Rotate first: a key that signs can't be revoked. Returns once every server that reaches the database has
    deleted the key.
    """
    with connected(server) as client:
        keys = client.admin.revoke_decision_key(key_id, timeout=_LONGEST_ROTATION)
    note_done(f"key {key_id} is revoked")
    _print(keys, as_json=as_json)


@key.command("list")
@server_option
@json_option
def list_keys(server: str, *, as_json: bool) -> None:
    """List the keys, newest first, without their secrets."""
    with connected(server) as client:
        keys = client.admin.list_decision_keys()
    _print(keys, as_json=as_json)


def _print(keys: Sequence[DecisionKey], *, as_json: bool) -> None:
    if as_json:
        print_json(ListDecisionKeysResponse(keys=keys))
        return
    table = plain_table()
    table.add_column("key", justify="right")
    table.add_column("state")
    table.add_column("signs from")
    table.add_column("until")
    for item in keys:
        table.add_row(
            str(item.id),
            _state(item.state),
            _time(item.sign_time, is_set=item.HasField("sign_time")),
            _time(item.replace_time, is_set=item.HasField("replace_time")),
        )
    print_table(output_console(), table)


def _state(state: DecisionKeyState.ValueType) -> str:
    try:
        return DecisionKeyState.Name(state).removeprefix("DECISION_KEY_STATE_").lower()
    except ValueError:  # of a newer server
        return str(state)


def _time(instant: Timestamp, *, is_set: bool) -> str:
    return local_time(instant) if is_set else "-"
