"""`bandit-server report`: what is known about an experiment's arms, as tables, JSON or an HTML page."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from bandit.v1.experiment_pb2 import Report
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import output_console, print_json
from server.cli.framework.finite_float import FiniteFloat
from server.cli.framework.help import Command
from server.cli.framework.named_file import NamedFile
from server.cli.framework.split_option import Split
from server.cli.report_view.terminal import print_report
from server.standard_streams import note_done

_TIMEOUT: Final = 120.0
"""Seconds. A report on many arms takes a while."""


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--split",
    "splits",
    type=Split(),
    multiple=True,
    help="Static split to compare with, such as v1=50,v2=50; repeat for more. Default: an even one.",
)
@click.option(
    "--lift",
    type=FiniteFloat(-1, 10, min_open=True),
    default=0.0,
    metavar="PART",
    help="Relative lift for the outlook. Default: 0.1, or -0.1 where less is better.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 5_000),
    default=200,
    show_default=True,
    metavar="N",
    help="Most epochs of history to show.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Metric to report on besides the reward metric; repeat for more. Default: all.",
)
@click.option(
    "--html",
    type=NamedFile(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write an HTML page with plots, for use offline. Needs 'bandit-allocator[plots]'.",
)
@server_option
@json_option
def report(
    name: str,
    splits: tuple[dict[str, float], ...],
    lift: float,
    epochs: int,
    metrics: tuple[str, ...],
    html: Path | None,
    server: str,
    *,
    as_json: bool,
) -> None:
    """Show what is known about an experiment's arms.

    Evidence holds at every look, whatever the allocation did; beliefs (posterior intervals, P(best), expected
    loss) promise no error rate. The two are never mixed. Where a figure is missing, the report says why.
    """
    page = None if html is None else _page_writer()
    with connected(server) as client:
        found = client.experiments.report(
            name, max_epochs=epochs, splits=splits, lift=lift, metrics=metrics, timeout=_TIMEOUT
        )
    if page is not None and html is not None:
        page(found, html)
        note_done(f"{html} is written")
        click.echo(f"{html} is written", err=as_json)
    if as_json:
        print_json(found)
    elif html is None:
        print_report(found, output_console())


def _page_writer() -> Callable[[Report, Path], None]:
    """Return the writer of HTML pages, imported on demand: its mathematics takes half a second to load."""
    from server.cli.report_view.html_page import write_page  # noqa: PLC0415 - as above
    from server.cli.report_view.plots import require_matplotlib  # noqa: PLC0415 - as above

    require_matplotlib()
    return write_page
