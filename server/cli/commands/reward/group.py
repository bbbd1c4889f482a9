"""The command `reward`, which posts by hand, and the one below it, which posts a file."""

from typing import Any

import click

from server.cli.commands.reward.post import post
from server.cli.framework.help import LazyGroup


class _Reward(LazyGroup):
    """A group whose arguments are those of `post`, unless a command comes first: no decision id is one."""

    lazy = {  # noqa: RUF012 - as the group declares it
        "import": (
            "server.cli.commands.reward.import_file:import_file",
            "Post the outcomes in a CSV or Parquet file.",
        )
    }

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command that the arguments are for."""
        command = self.get_command(click.Context(self), args[0]) if args else None
        if command is None:
            return post.make_context(info_name, args, parent, **extra)
        return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


reward = _Reward("reward", help=post.help, params=post.params)
