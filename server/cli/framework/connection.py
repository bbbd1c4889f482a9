"""Connections from commands to a server, and messages for failed calls."""

import logging
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import grpc
from click.core import ParameterSource

from bandit.client import BanditClient, CallError, RetryPolicy, Tls
from bandit.client.credentials import Bearer
from bandit.client.endpoint import Endpoint
from server.addresses import is_unix
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting

DEFAULT_SERVER = "127.0.0.1:50051"
_TIMEOUT = 10.0
_FunctionT = TypeVar("_FunctionT", bound=Callable[..., None])


def server_option(function: _FunctionT) -> _FunctionT:
    """Add `--server` to a command, with the options for TLS and tokens."""
    for option in reversed(_ACCESS_OPTIONS):
        function = option(function)
    option = click.option(
        "--server",
        metavar="ADDRESS",
        envvar="BANDIT_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        show_envvar=True,
        help="Address of the server: HOST:PORT, unix:PATH or unix-abstract:NAME.",
    )
    return option(function)


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Store the value of an access option for `connected`, so that commands need not pass it on."""
    ctx.meta[f"{_META}.{param.name}"] = value


def _access_option(flag: str, text: str, metavar: str | None = "FILE") -> Callable[[_FunctionT], _FunctionT]:
    name = flag.removeprefix("--").replace("-", "_")
    return click.option(
        flag,
        name,
        is_flag=metavar is None,
        metavar=metavar,
        envvar=f"BANDIT_{name.upper()}",
        show_envvar=True,
        callback=_keep,
        expose_value=False,
        help=text,
    )


_META = "bandit.access"
_ACCESS_OPTIONS = (
    _access_option("--tls", "Use TLS; the next three imply it.", metavar=None),
    _access_option("--ca", "PEM file of the root certificates to check the server's certificate with."),
    _access_option("--certificate", "PEM file of your client certificate, if the server requires one."),
    _access_option("--key", "PEM file of that certificate's private key."),
    _access_option("--token-file", "File that holds your token; or set BANDIT_TOKEN to the token itself."),
)


def json_option(function: _FunctionT) -> _FunctionT:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


@contextmanager
def connected(server: str, file: str = "") -> Iterator[BanditClient]:
    """Yield a client of `server`; a `CallError` becomes a `CommandError`.

    Args:
        server: its address.
        file: prefix of field violations, such as the name of an experiment file.
    """
    # The command reports a failed choice itself; a warning in the log would repeat it.
    logging.getLogger("bandit.client").addHandler(logging.NullHandler())
    client = _client(server)
    try:
        with client:
            yield client
    except CallError as error:
        raise CommandError(*explain(error, server, file)) from error


def _client(server: str) -> BanditClient:
    meta = click.get_current_context().meta
    ca, certificate, key, token_file = (
        meta.get(f"{_META}.{name}") for name in ("ca", "certificate", "key", "token_file")
    )
    has_tls = meta.get(f"{_META}.tls") or ca or certificate or key
    token = Path(token_file) if token_file else os.environ.get("BANDIT_TOKEN") or None
    with reporting(ValueError, CalledWronglyError, f"{_source_of_server()}: "):
        is_loopback = Endpoint(target=server, credentials=None, token=None).is_loopback
    if token and not has_tls and not is_loopback:
        raise CalledWronglyError(
            f"the token would be sent to {server} unencrypted: add --tls or --ca, or leave out "
            f"{'--token-file' if token_file else 'BANDIT_TOKEN'}"
        )
    try:
        with reporting(ValueError, CalledWronglyError, f"{token_file or 'BANDIT_TOKEN'}: "):
            Bearer(token)
        return BanditClient(
            server,
            choose_timeout=_TIMEOUT,
            batch_choose_timeout=_TIMEOUT,
            retry=RetryPolicy(timeout=_TIMEOUT / 5),
            tls=Tls(ca=ca, certificate=certificate, key=key) if has_tls else None,
            token=token,
        )
    except OSError as error:
        raise CalledWronglyError(
            f"{error.filename}: {(error.strerror or 'cannot be read').lower()}"
        ) from None
    except ValueError as error:
        raise CalledWronglyError(str(error)) from None


def _source_of_server() -> str:
    """Return where the server's address was set."""
    source = click.get_current_context().get_parameter_source("server")
    return "BANDIT_SERVER" if source is ParameterSource.ENVIRONMENT else "--server"


def explain(error: CallError, server: str, file: str = "") -> list[str]:
    """Return what went wrong, with one line for each bad field: `FILE: PATH: RULE`."""
    prefix = f"{file}: " if file else ""
    if error.field_violations:
        paths = [violation.field.removeprefix("experiment.") for violation in error.field_violations]
        return [
            f"{prefix}{path}: {violation.description}"
            for path, violation in zip(paths, error.field_violations, strict=True)
        ]
    if not error.reason and error.code is grpc.StatusCode.UNAVAILABLE:
        return [_explain_unavailable(error.message, server)]
    if not error.reason and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return [f"the server at {server} did not answer in time"]
    return [prefix + (error.message or error.code.name)]


def _explain_unavailable(message: str, server: str) -> str:
    """Return why there is no connection, as far as gRPC's message shows."""
    if "SSL" in message or "handshake" in message.lower():
        return f"TLS with {server} failed: check --ca, and that the server accepts your certificate"
    if "ocket closed" in message or "reset" in message:
        return f"the server at {server} closed the connection: does it need --tls and --ca, or --certificate?"
    if is_unix(server):
        return _explain_unix(message, server)
    if ":443:" in message and ":443" not in server:
        return (
            f"no server answers at {server}, port 443, which gRPC takes where none is given: write HOST:PORT"
        )
    return f"no server answers at {server}: start one with `bandit-server serve`"


def _explain_unix(message: str, server: str) -> str:
    """Return why there is no connection to a Unix socket."""
    command = f"`bandit-server serve --listen {shlex.quote(server)}`"
    if "ermission denied" in message:
        return f"this user may not call {server}: it must be the server's user, or of the socket's group"
    if "No such file" in message:
        return f"there is no socket {server}: start a server with {command}"
    return f"no server answers at {server}: start one with {command}"
