"""The root of the command line: the commands and their modules.

Commands are imported when they run: `--help` needs neither gRPC nor the server.
"""

import os

import click

from bandit import DISTRIBUTION
from server.cli.framework.help import LazyGroup
from server.version import VERSION

COMMANDS = {
    "serve": ("server.cli.commands.serve:serve", "Serve Choose and Reward until SIGTERM."),
    "verify": ("server.cli.commands.verify:verify", "Compare the reward log with the stored sums, exactly."),
    "rebuild": ("server.cli.commands.verify:rebuild", "Recount the outcomes from the reward log."),
    "backup": ("server.cli.commands.backup:backup", "Copy an SQLite database, even while a server uses it."),
    "clock": ("server.cli.commands.clock:clock", "Show, accept and repair the time that servers go by."),
    "experiment": ("server.cli.commands.experiment:experiment", "Create, change, run and list experiments."),
    "launch": ("server.cli.commands.launch:launch", "Show and move the challengers of a launch."),
    "report": ("server.cli.commands.report:report", "Show what is known about an experiment's arms."),
    "events": ("server.cli.commands.events:events", "Show what happened to an experiment, and follow it."),
    "export": (
        "server.cli.commands.export:export",
        "Write an experiment's facts, epochs and reward log as Parquet or CSV.",
    ),
    "plan": (
        "server.cli.commands.plan.command:plan",
        "Plan how long it takes to see a lift, and what to expect of a launch, before the start.",
    ),
    "choose": ("server.cli.commands.choose:choose", "Choose an arm by hand."),
    "reward": (
        "server.cli.commands.reward.group:reward",
        "Post the outcomes of a decision by hand, or import a file of them.",
    ),
    "token": ("server.cli.commands.token:token", "Create tokens for callers."),
    "key": ("server.cli.commands.key:key", "Rotate, revoke and list the keys that sign decisions."),
    "webhooks": (
        "server.cli.commands.webhooks.group:webhooks",
        "Show what webhooks have not taken, and send it again.",
    ),
    "audit": ("server.cli.commands.audit:audit", "Show who changed what."),
}


class Root(LazyGroup):
    """The commands of `bandit-server`."""

    lazy = COMMANDS

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, and warn of each doubtful variable; `serve` logs them itself."""
        found = super().resolve_command(ctx, args)
        if found[0] != "serve" and not ctx.resilient_parsing:
            _warn_of_variables()
        return found


def _warn_of_variables() -> None:
    if not any(name.upper().startswith("BANDIT_") for name in os.environ):
        return
    from server.environment import doubtful_variables  # noqa: PLC0415 - help and most runs need not wait

    for problem in doubtful_variables(os.environ):
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {problem}", err=True)


@click.group(cls=Root, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, package_name=DISTRIBUTION, message="%(package)s %(version)s")
def cli() -> None:
    """Run and operate a multi-armed-bandit allocation service.

    serve, verify, rebuild, backup, clock, webhooks and export open the database; plan and token need neither
    database nor server. All other commands call a running server, by default on this machine.

    \b
    A first look:
      bandit-server serve
      bandit-server experiment example > ranker.toml
      bandit-server experiment apply ranker.toml
      bandit-server experiment start ranker
      bandit-server choose ranker --count 1000
      bandit-server report ranker
    """  # noqa: D301 - click reads the backslash
