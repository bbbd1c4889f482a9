"""`bandit-server token`: tokens for callers. A token is printed once, and only its hash is kept."""

import os
import re
from pathlib import Path

import click

from server.cli.commands.tokens_file_edit import TokensTextError, with_token
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting
from server.cli.framework.help import Group
from server.cli.framework.named_file import NamedFile
from server.file_drafts import draft_of
from server.services.access.callers import Caller, Role, digest_of, new_token
from server.services.access.tokens_file import CALLER_RULE, TOKENS_BYTES, TokensFileError, parse_tokens
from server.services.runtime.input_files import InputFileError, decode, read_bytes
from server.standard_streams import note_done
from server.store.records import ANYONE


@click.group(cls=Group)
def token() -> None:
    """Create tokens for callers.

    A tokens file lists callers and what they may do; `bandit-server serve --tokens FILE` enforces it. It
    holds hashes, from which no token can be recovered.
    """


@token.command()
@click.option("--caller", required=True, metavar="NAME", help="Name of the caller, for the audit.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([str(role) for role in Role]),
    metavar="ROLE",
    help=f"What the caller may do: {', '.join(Role)}; repeat for more. Not needed for a caller in the file "
    "of --append.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Limit the caller to experiments NAME/...; repeat for more.",
)
@click.option(
    "--append",
    type=NamedFile(),
    metavar="FILE",
    help="Add the hash to this tokens file; a caller who is in it gets a second token.",
)
def new(caller: str, roles: tuple[str, ...], namespaces: tuple[str, ...], append: Path | None) -> None:
    """Create a token.

    Prints the token alone to standard output, this once. Its hash goes into the tokens file, by --append or
    by hand. To replace a token, create a second one, give it to the caller, then remove the first hash from
    the file.
    """
    if not re.fullmatch(CALLER_RULE, caller) or caller == ANYONE:
        raise CalledWronglyError(f"--caller: must match {CALLER_RULE} and not be {ANYONE!r}, got {caller!r}")
    made = new_token()
    requested = Caller(
        name=caller,
        roles=frozenset(Role(role) for role in roles),
        namespaces=frozenset(namespaces) or None,
        token_hashes=(digest_of(made),),
    )
    with reporting(TokensTextError, CalledWronglyError), reporting(TokensFileError):
        text = with_token(_read(append), requested)
        parse_tokens(text, str(append or "the new lines"))
    if append is None:
        click.echo(f"# add this to the tokens file of the server\n{text.strip()}\n", err=True)
    else:
        _write(append, text)
        note_done(f"{append} has the hash of a token that nobody has seen; remove it, and create another")
        click.echo(f"{append}: the hash is added. This is the token; it is not shown again:", err=True)
    click.echo(made)


def _read(file: Path | None) -> str:
    if file is None or not os.path.lexists(file):
        return ""
    try:
        data = read_bytes(file, most_bytes=TOKENS_BYTES, may_be_pipe=False)
        return decode(data, most_bytes=TOKENS_BYTES)
    except InputFileError as error:
        raise CommandError(f"{file}: {error}") from None


def _write(file: Path, text: str) -> None:
    """Replace the file atomically, so that a server never reads half of it, and keep its mode."""
    try:
        with draft_of(file, mode=0o666) as draft:
            if file.exists():
                os.fchmod(draft.descriptor, file.stat().st_mode & 0o777)
            with os.fdopen(draft.descriptor, "w", encoding="utf-8", closefd=False) as opened:
                opened.write(text)
            draft.install(file)
    except OSError as error:
        raise CommandError(f"{file}: {(error.strerror or 'cannot be written').lower()}") from None
