"""A server accepts every example of `experiments.md`."""

import tomllib
from typing import Final

import pytest
from click.testing import CliRunner

from server.cli.main import cli
from tests.docs.pages import ROOT, Page
from tests.support.process import ServerProcess

BLOCKS: Final = Page(ROOT / "server" / "docs" / "experiments.md").blocks("toml")

TOP: Final = 'name = "documented"\nchampion = "v1"\nreward_metric = "click"\n'
"""First lines of every file; the keys of an example follow."""


def whole_file(example: str) -> str:
    """Complete the example with what an experiment needs: arms `v1` and `v2`, and the reward metric."""
    declared = tomllib.loads(example)
    arms = {arm["id"] for arm in declared.get("arms", [])}
    metrics = {metric["name"] for metric in declared.get("metrics", [])}
    missing = [f'[[arms]]\nid = "{arm}"\n' for arm in ("v1", "v2") if arm not in arms]
    if "click" not in metrics:
        missing.append('[[metrics]]\nname = "click"\nkind = "binary"\n')
    top = "" if "name" in declared else TOP
    return "\n".join([top, example, *missing])


@pytest.mark.parametrize("example", BLOCKS)
def test_examples_are_accepted(example: str, shared_process: ServerProcess) -> None:
    """A file with the example passes every check of the server."""
    arguments = ["experiment", "apply", "--dry-run", "--server", shared_process.address, "-"]
    done = CliRunner().invoke(cli, arguments, input=whole_file(example))
    assert done.exit_code == 0, done.output
    assert "nothing was changed" in done.output


def test_a_wrong_example_is_refused(shared_process: ServerProcess) -> None:
    """An example that the server does not accept fails."""
    arguments = ["experiment", "apply", "--dry-run", "--server", shared_process.address, "-"]
    wrong = whole_file("[limits]\nminimum_share = 0.6\n")
    assert CliRunner().invoke(cli, arguments, input=wrong).exit_code != 0
