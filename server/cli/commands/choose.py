"""`bandit-server choose`: a decision by hand, to try an experiment."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, repeat

import click

from bandit.client import BanditClient, Choice, Fallback, Question
from bandit.text import Kind, text_fault
from server.cli.framework.connection import connected, json_option, server_option
from server.cli.framework.console import counted, output_console
from server.cli.framework.help import Command
from server.cli.framework.tables import plain_table, print_table
from server.cli.framework.unit_option import Unit
from server.standard_streams import note_done
from server.wording import percent

_BATCH = 1_000
_NO_ARM = Fallback("none")  # never served: the command fails with the error instead


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--unit",
    type=Unit(),
    metavar="UNIT",
    help="Who keeps the same arm, such as a user id. Without it the arm is random.",
)
@click.option("--eligible", multiple=True, metavar="ARM", help="Arm that can serve; repeat for more.")
@click.option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="Choose N times and count the arms. All of them are real decisions.",
)
@server_option
@json_option
def choose(
    name: str, unit: str | None, eligible: tuple[str, ...], count: int | None, server: str, *, as_json: bool
) -> None:
    """Choose an arm by hand.

    This is a real decision: it counts, and its id can be rewarded.
    """
    question = Question(experiment=name, fallback=_NO_ARM, unit=unit, eligible_arms=eligible or None)
    with connected(server) as client:
        choices = list(_choices(client, question, count or 1))
    note_done(f"{counted(len(choices), 'decision')} made")
    if count is not None:
        _print_tally(choices, as_json=as_json)
    elif as_json:
        click.echo(json.dumps(_facts(choices[0]), indent=2))
    else:
        for key, value in _facts(choices[0]).items():
            click.echo(f"{key:<12} {value if isinstance(value, str) else _readable(value)}")


def _choices(client: BanditClient, question: Question, count: int) -> Iterator[Choice]:
    """Yield the choices; raise the error of the first one that the service did not make."""
    questions = repeat(question, count)
    while batch := list(islice(questions, _BATCH)):
        for choice in client.batch_choose(batch):
            if choice.fallback_cause is not None:
                raise choice.fallback_cause
            yield choice


def _facts(choice: Choice) -> dict[str, object]:
    facts: dict[str, object] = {
        "arm": choice.arm,
        "decision_id": choice.decision_id,
        "propensity": choice.propensity,
        "reason": str(choice.reason),
        "epoch": choice.epoch,
        "model_uri": choice.model_uri,
        "payload": choice.payload,
    }
    return facts


def _readable(value: object) -> str:
    """Return JSON with letters as they are, unless a terminal would obey one of them."""
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if text_fault(text, Kind.DESCRIPTION, len(text)) else text


def _print_tally(choices: Sequence[Choice], *, as_json: bool) -> None:
    tally = Counter((choice.arm, str(choice.reason)) for choice in choices).most_common()
    if as_json:
        rows = [{"arm": arm, "reason": reason, "count": count} for (arm, reason), count in tally]
        click.echo(json.dumps({"tally": rows}, indent=2))
        return
    table = plain_table()
    table.add_column("arm", overflow="fold")
    table.add_column("reason")
    for heading in ("count", "of all"):
        table.add_column(heading, justify="right")
    for (arm, reason), count in tally:
        table.add_row(arm, reason, f"{count:,}", percent(count / len(choices)))
    print_table(output_console(), table)
