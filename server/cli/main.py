"""The root of the command line: which commands there are, and where.

Commands are imported when they run: `--help` needs neither gRPC nor the server.
"""

import click

from server.cli.help import LazyGroup

COMMANDS = {
    "serve": ("server.cli.serve:serve", "Answer Choose and Reward until SIGTERM."),
    "verify": ("server.cli.maintenance:verify", "Compare the reward log with what was counted, exactly."),
    "rebuild": ("server.cli.maintenance:rebuild", "Count the outcomes anew from the reward log."),
    "backup": ("server.cli.backup:backup", "Copy an SQLite database, also while a server uses it."),
    "clock": ("server.cli.clock:clock", "Show, accept and repair the time that servers go by."),
    "experiment": ("server.cli.experiment:experiment", "Create, change, run and list experiments."),
    "report": ("server.cli.report:report", "Show what is known about an experiment's arms."),
    "export": (
        "server.cli.export:export",
        "Write an experiment's facts, epochs and reward log as Parquet or CSV.",
    ),
    "plan": ("server.cli.plan:plan", "Tell how long until a lift would be seen, before the start."),
    "choose": ("server.cli.traffic:choose", "Ask for an arm by hand."),
    "reward": ("server.cli.traffic:reward", "Post what came of a decision by hand."),
    "token": ("server.cli.token:token", "Make tokens for callers."),
    "key": ("server.cli.key:key", "Rotate, revoke and list the keys that sign decisions."),
    "audit": ("server.cli.audit:audit", "Show who changed what."),
}


class Root(LazyGroup):
    """The commands of `bandit-server`."""

    lazy = COMMANDS


@click.group(cls=Root, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bandit-allocator", message="%(package)s %(version)s")
def cli() -> None:
    """Run and operate a multi-armed-bandit allocation service.

    serve, verify, rebuild, backup, clock and export open the database; plan and token need nothing. All other
    commands speak to a running server, by default to the one on this machine.

    \b
    A first look:
      bandit-server serve
      bandit-server experiment example > ranker.toml
      bandit-server experiment apply ranker.toml
      bandit-server experiment start ranker
      bandit-server choose ranker --count 1000
      bandit-server report ranker
    """  # noqa: D301 - click reads the backslash
