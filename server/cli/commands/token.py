"""`bandit-server token`: tokens for callers. A token is shown once, and only its hash is kept."""

import os
import re
from pathlib import Path

import click

from server.cli.commands.tokens_file_edit import TokensTextError, with_token
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting
from server.cli.framework.help import Group
from server.file_drafts import draft_of
from server.services.access.callers import Caller, Role, digest_of, new_token
from server.services.access.tokens_file import CALLER_RULE, TOKENS_BYTES, TokensFileError, parse_tokens
from server.services.runtime.input_files import InputFileError, decode, read_bytes
from server.store.records import ANYONE


@click.group(cls=Group)
def token() -> None:
    """Make tokens for callers.

    A tokens file says who may call and do what; `bandit-server serve --tokens FILE` heeds it. It holds
    hashes, from which no token can be found.
    """


@token.command()
@click.option("--caller", required=True, metavar="NAME", help="Who will call; it stands in the audit.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([str(role) for role in Role]),
    metavar="ROLE",
    help=f"What they may do: {', '.join(Role)}; repeat it for more. Not needed for a caller who is in "
    "--append's file.",
)
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Only experiments NAME/...; repeat it for more.",
)
@click.option(
    "--append",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the hash into this tokens file; a caller who is there gets a second token.",
)
def new(caller: str, roles: tuple[str, ...], namespaces: tuple[str, ...], append: Path | None) -> None:
    """Make a token.

    The token alone goes to standard output, and is never shown again. Its hash goes into the tokens file,
    by --append or by your hand. To replace a token, make a second one, give it to the caller, then take the
    first hash out of the file.
    """
    if not re.fullmatch(CALLER_RULE, caller) or caller == ANYONE:
        raise CalledWronglyError(f"--caller: must match {CALLER_RULE} and not be {ANYONE!r}, got {caller!r}")
    made = new_token()
    wanted = Caller(
        name=caller,
        roles=frozenset(Role(role) for role in roles),
        namespaces=frozenset(namespaces) or None,
        token_hashes=(digest_of(made),),
    )
    with reporting(TokensTextError, CalledWronglyError), reporting(TokensFileError):
        text = with_token(_read(append), wanted)
        parse_tokens(text, str(append or "the new lines"))
    if append is None:
        click.echo(f"# add this to the tokens file of the server\n{text.strip()}\n", err=True)
    else:
        _write(append, text)
        click.echo(f"{append}: the hash is in; this is the token, which is shown this once:", err=True)
    click.echo(made)


def _read(file: Path | None) -> str:
    if file is None or not file.exists():
        return ""
    try:
        data = read_bytes(file, most_bytes=TOKENS_BYTES, may_be_pipe=False)
        return decode(data, most_bytes=TOKENS_BYTES)
    except InputFileError as error:
        raise CommandError(f"{file}: {error}") from None


def _write(file: Path, text: str) -> None:
    """Replaces the file in one step, so that a server never reads half of it, with the mode that it had."""
    try:
        with draft_of(file, mode=0o666) as draft:
            if file.exists():
                os.fchmod(draft.descriptor, file.stat().st_mode & 0o777)
            with os.fdopen(draft.descriptor, "w", encoding="utf-8", closefd=False) as opened:
                opened.write(text)
            draft.install(file)
    except OSError as error:
        raise CommandError(f"{file}: {(error.strerror or 'cannot be written').lower()}") from None
