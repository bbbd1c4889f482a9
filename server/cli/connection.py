"""Connects RPC commands to a server, and says what it answers in lines for a person."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click
import grpc

from bandit.client import BanditClient, CallError, RetryPolicy
from server.cli.errors import CommandError

DEFAULT_SERVER = "127.0.0.1:50051"
_PATIENCE = 10.0
_FunctionT = TypeVar("_FunctionT", bound=Callable[..., None])


def server_option(function: _FunctionT) -> _FunctionT:
    """Adds `--server` to a command."""
    option = click.option(
        "--server",
        metavar="HOST:PORT",
        envvar="BANDIT_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        show_envvar=True,
        help="The server to speak to.",
    )
    return option(function)


def json_option(function: _FunctionT) -> _FunctionT:
    """Adds `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


@contextmanager
def connected(server: str, file: str = "") -> Iterator[BanditClient]:
    """A client of `server`; what fails on it becomes a `CommandError`.

    Args:
        server: HOST:PORT.
        file: what field violations are about, such as the name of an experiment file.
    """
    # A choice by hand reports its failure itself; a warning in the log would say it twice.
    logging.getLogger("bandit.client").addHandler(logging.NullHandler())
    client = BanditClient(
        server,
        choose_timeout=_PATIENCE,
        batch_choose_timeout=_PATIENCE,
        retry=RetryPolicy(timeout=_PATIENCE / 5),
    )
    try:
        with client:
            yield client
    except CallError as error:
        raise CommandError(*explain(error, server, file)) from error


def explain(error: CallError, server: str, file: str = "") -> list[str]:
    """What went wrong, one line for each bad field: `FILE: PATH: RULE`."""
    prefix = f"{file}: " if file else ""
    if error.field_violations:
        paths = [violation.field.removeprefix("experiment.") for violation in error.field_violations]
        return [
            f"{prefix}{path}: {violation.description}"
            for path, violation in zip(paths, error.field_violations, strict=True)
        ]
    if not error.reason and error.code is grpc.StatusCode.UNAVAILABLE:
        return [f"no server answers at {server}: start one with `bandit-server serve`"]
    if not error.reason and error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return [f"the server at {server} did not answer in time"]
    return [prefix + (error.message or error.code.name)]
