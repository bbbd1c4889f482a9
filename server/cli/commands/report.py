"""`bandit-server report`: what is known about an experiment's arms, as tables, as JSON or as a page."""

from collections.abc import Callable
from typing import Final

import click

from bandit.v1.experiment_pb2 import Report
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import output_console, print_json
from server.cli.framework.help import Command
from server.cli.framework.split_option import Split
from server.cli.report_view.terminal import print_report

_PATIENCE: Final = 120.0
"""Seconds: a report on very many arms takes a while."""


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--split",
    "splits",
    type=Split(),
    multiple=True,
    help="A static split to compare with, such as v1=50,v2=50; may be repeated. Default: an even one.",
)
@click.option(
    "--lift",
    type=click.FloatRange(-1, 10, min_open=True),
    default=0.0,
    metavar="PART",
    help="The relative lift that the outlook is asked for. Default: 0.1, or -0.1 where less is better.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 5_000),
    default=200,
    show_default=True,
    metavar="N",
    help="At most so many epochs of history.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric to report on beside the reward metric; may be repeated. Default: all.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Write a page with plots that needs no network. Needs 'bandit-allocator[plots]'.",
)
@server_option
@json_option
def report(
    name: str,
    splits: tuple[dict[str, float], ...],
    lift: float,
    epochs: int,
    metrics: tuple[str, ...],
    html: str | None,
    server: str,
    *,
    as_json: bool,
) -> None:
    """Show what is known about an experiment's arms.

    Evidence holds at every look, whatever the allocation did; beliefs (posterior intervals, P(best), expected
    loss) promise no error rate. The two are never mixed, and what can't be said is said to be so.
    """
    page = None if html is None else _page_writer()
    with connected(server) as client:
        found = client.experiments.report(
            name, max_epochs=epochs, splits=splits, lift=lift, metrics=metrics, timeout=_PATIENCE
        )
    if page is not None and html is not None:
        page(found, html)
        click.echo(f"{html} is written", err=as_json)
    if as_json:
        print_json(found)
    elif html is None:
        print_report(found, output_console())


def _page_writer() -> Callable[[Report, str], None]:
    """What writes pages, loaded when it is asked for: the mathematics behind it takes half a second."""
    from server.cli.report_view.html_page import write_page  # noqa: PLC0415 - as above
    from server.cli.report_view.plots import require_matplotlib  # noqa: PLC0415 - as above

    require_matplotlib()
    return write_page
