"""`bandit-server reward import`: late outcomes from a warehouse."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from bandit.client import CallError, OutcomeResult
from server.cli.commands.reward.layout import LayoutError, recognise
from server.cli.commands.reward.posting import Importer, Tally
from server.cli.commands.reward.refused_file import RefusedFile
from server.cli.commands.reward.table import open_table
from server.cli.framework.connection import connected, explain, json_option, server_option
from server.cli.framework.console import counted, output_console
from server.cli.framework.errors import CalledWronglyError, CommandError, reporting
from server.cli.framework.finite_float import FiniteFloat
from server.cli.framework.help import Command
from server.cli.framework.named_file import NamedFile
from server.cli.framework.progress import progress_bar
from server.cli.framework.tables import plain_table, print_table
from server.standard_streams import note_done

_RESULTS: Final = (
    OutcomeResult.RECORDED,
    OutcomeResult.LATE,
    OutcomeResult.DUPLICATE,
    OutcomeResult.REVISED,
    OutcomeResult.SUPERSEDED,
)


@click.command(cls=Command)
@click.argument("file", type=NamedFile())
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="COLUMN",
    help="Column that is a metric, if FILE has others beside them; repeat for more.",
)
@click.option(
    "--refused",
    type=NamedFile(),
    metavar="PATH",
    help="Where refused rows are written.  [default: FILE with the ending .refused.csv]",
)
@click.option(
    "--from-row",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="First row to post. An import that breaks off names it.",
)
@click.option(
    "--wait",
    type=FiniteFloat(0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a server that is away, or takes nothing, before giving up.",
)
@server_option
@json_option
def import_file(
    file: Path,
    metrics: Sequence[str],
    refused: Path | None,
    from_row: int,
    wait: float,
    server: str,
    *,
    as_json: bool,
) -> None:
    """Post the outcomes in a CSV or Parquet file.

    FILE has a row for each outcome, with the columns decision_id, metric, value and perhaps revision; or a
    row for each decision, with decision_id, perhaps revision, and a column for each metric. An empty value is
    no outcome, and an empty decision_id is a fallback's.

    Repeating it is safe, also after a break: a decision counts once for each metric. Refused rows are written
    to a file with their reasons, for correction and import; then the exit code is 1.
    """
    if refused is not None and refused.exists() and file.exists() and refused.samefile(file):
        raise CalledWronglyError(f"{refused}: is FILE itself: name another with --refused")
    with (
        open_table(file) as table,
        RefusedFile(
            refused or file.with_suffix(".refused.csv"), table.names, may_append=from_row > 1
        ) as refused_file,
    ):
        with reporting(LayoutError, CalledWronglyError, f"{file}: "):
            layout = recognise(table.names, metrics)
        if layout.ignored:
            click.echo(f"note: ignored columns: {', '.join(map(repr, layout.ignored))}", err=True)
        tally = Tally()
        with (
            _resumable(file, tally),
            connected(server) as client,
            progress_bar(f"importing {file.name}") as bar,
        ):
            importer = Importer(client, layout, refused_file, tally, wait=wait, on_wait=_say_why(server))
            importer.post_all(table, from_row, bar)
    note_done(f"{counted(tally.n_rows, 'row')} posted")
    _show(tally, refused_file, as_json=as_json)
    if refused_file.n_rows:
        n_rows = counted(refused_file.n_rows, "row")
        raise CommandError(f"{n_rows} refused: correct {refused_file.path} and import that")


@contextmanager
def _resumable(file: Path, tally: Tally) -> Iterator[None]:
    """Add to whatever ends an import how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError("interrupted", _resume(file, tally)) from None
    except CalledWronglyError:
        raise
    except CommandError as error:
        raise CommandError(error.message, _resume(file, tally)) from error


def _say_why(server: str) -> Callable[[CallError], None]:
    """Return what prints why an import waits."""
    return lambda error: click.echo(f"note: waiting: {explain(error, server)[0]}", err=True)


def _resume(file: Path, tally: Tally) -> str:
    """Return how to go on after a break."""
    if not tally.last_row:
        return f"{file}: no row was posted for sure; run the same command again"
    return (
        f"{file}: all rows up to {tally.last_row} are posted: go on with --from-row {tally.last_row + 1}; to "
        "begin again is safe, too"
    )


def _show(tally: Tally, refused: RefusedFile, *, as_json: bool) -> None:
    results = {str(result): tally.results.get(result, 0) for result in _RESULTS} | dict(tally.results)
    if as_json:
        facts = {
            "rows": tally.n_rows,
            "outcomes": results,
            "fallback_rows": tally.n_fallbacks,
            "empty_rows": tally.n_empty,
            "refused_rows": refused.n_rows,
            "refused_file": str(refused.path) if refused.n_rows else None,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    table = plain_table()
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_row("rows", f"{tally.n_rows:,}")
    for result, n in results.items():
        table.add_row(f"outcomes {result}", f"{n:,}")
    table.add_row("rows of fallbacks, without a decision_id", f"{tally.n_fallbacks:,}")
    table.add_row("rows without a value", f"{tally.n_empty:,}")
    table.add_row("rows refused", f"{refused.n_rows:,}")
    print_table(output_console(), table)
