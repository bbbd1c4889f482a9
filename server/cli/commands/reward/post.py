"""`bandit-server reward`: outcomes by hand, to try an experiment or correct a value."""

import json
import math
from collections.abc import Mapping, Sequence

import click

from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.errors import CalledWronglyError
from server.cli.framework.help import Command
from server.standard_streams import note_done


class _Reward(Command):
    """The command, whose help lists the one below it, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the command for files."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([("import", "Post the outcomes in a CSV or Parquet file.")])


def _outcomes(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Mapping[str, float]:
    """Parse arguments such as `click=1` to metric and value; a callback for click."""
    outcomes: dict[str, float] = {}
    for text in values:
        name, _, number = text.partition("=")
        if not name or not number:
            raise click.BadParameter(f"{text!r} is not METRIC=VALUE, such as click=1", ctx, param)
        if name in outcomes:
            raise click.BadParameter(f"{text!r} names a metric twice", ctx, param)
        outcomes[name] = _number(number)
        if not math.isfinite(outcomes[name]):
            rule = "must be a finite number, with a point for decimals"
            raise click.BadParameter(
                f"the value of {name!r} {rule}, such as 1 or 0.5: got {number!r}", ctx, param
            )
    return outcomes


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@click.command("reward", cls=_Reward)
@click.argument("decision_id")
@click.argument("outcomes", callback=_outcomes, nargs=-1, required=True, metavar="METRIC=VALUE...")
@click.option(
    "--revision",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="A higher revision replaces a value that was posted with a lower one.",
)
@server_option
@json_option
def post(
    decision_id: str, outcomes: Mapping[str, float], revision: int, server: str, *, as_json: bool
) -> None:
    """Post the outcomes of a decision by hand, or import a file of them.

    Repeating it is safe: a decision counts once for each metric.
    `bandit-server reward import FILE` posts many at once.
    """
    if not decision_id:
        raise CalledWronglyError("DECISION_ID is empty: pass the decision_id of a choice")
    with connected(server) as client:
        result = client.reward(decision_id, outcomes, revision=revision)
    results = {metric: str(result.metric_to_result[metric]) for metric in outcomes}
    note_done(", ".join(f"{metric}: {outcome}" for metric, outcome in results.items()))
    if as_json:
        click.echo(json.dumps({"results": results}, indent=2))
    else:
        for metric, outcome in results.items():
            click.echo(f"{metric}: {outcome}")
