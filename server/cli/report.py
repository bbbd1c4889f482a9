"""`bandit-server report`: what is known about an experiment's arms, as a table or as JSON."""

import click

from server.cli.connection import connected, json_option, server_option
from server.cli.console import output_console, print_json
from server.cli.help import Command
from server.cli.report_table import print_report


@click.command(cls=Command)
@click.argument("name")
@server_option
@json_option
def report(name: str, server: str, *, as_json: bool) -> None:
    """Show what is known about an experiment's arms.

    Intervals are labelled by what they mean: a posterior interval is a belief, and says nothing about error
    rates under repeated looks.
    """
    with connected(server) as client:
        found = client.experiments.report(name)
    if as_json:
        print_json(found)
    else:
        print_report(found, output_console())
