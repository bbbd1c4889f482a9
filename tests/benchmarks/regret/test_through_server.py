"""A problem through a real server costs what it costs in-process; outcomes count alike in both."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.regret.command import main
from benchmarks.regret.players.contestants import parse_contestant
from benchmarks.regret.players.experiments import RunFacts, declared
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import RewardKind

MOST_ERRORS = 5.1


def through_server(arguments: str, folder: Path) -> list[dict[str, Any]]:
    """Return what the command finds; it must report that the figures agree."""
    file = folder / "figures.json"
    done = CliRunner().invoke(
        main, [*arguments.split(), "--through-server", "--jobs", "1", "--json", str(file)]
    )
    assert done.exit_code == 0, done.output
    assert "verify: clean" in done.output
    document: list[dict[str, Any]] = json.loads(file.read_text())
    return document


def test_regret_through_a_server_is_that_in_process(tmp_path: Path) -> None:
    """Thompson sampling with floors and a split, epochs and all; off by 5.1 errors once in 3 million."""
    policies = "thompson:champion-floor=0.2,split:90/10"
    found = through_server(
        f"--means 0.2,0.5 --horizon 120 --runs 15 --refresh-every 20 --policies {policies}", tmp_path
    )
    learning, fixed = found
    for each in found:
        assert abs(each["standard_errors_apart"]) < MOST_ERRORS
        assert each["in_process"]["runs"] >= 1_000
        assert each["runs"] == 15
    assert learning["n_epochs"] > 2 * 15
    assert 15 <= fixed["n_epochs"] <= 4 * 15  # of at least 32 decisions each, but for the last
    assert learning["mean"] < fixed["mean"]


def test_outcomes_wait_for_their_delay_on_a_server_too(tmp_path: Path) -> None:
    """The greedy policy's regret ends after the first refresh at which an outcome is known: round 20."""
    arguments = "--means 0,1 --horizon 40 --runs 12 --refresh-every 10 --delay 15 --curve"
    (found,) = through_server(f"{arguments} --policies epsilon-greedy:0", tmp_path)
    regret = dict(zip(found["curve"]["round"], found["curve"]["mean"], strict=True))
    assert regret[19] < regret[20]
    assert regret[20] == regret[40]


@pytest.mark.parametrize("reward", RewardKind)
@pytest.mark.parametrize(
    "label", ["thompson", "epsilon-greedy:0.2:decay=9", "uniform", "split:3/1:floor=0.1"]
)
def test_shares_asked_for_are_those_of_the_policy(reward: RewardKind, label: str) -> None:
    """Facts in the server's integers give shares that sum to 1; the declaration names the limits."""
    problem = Problem(means=(0.2, 0.5), reward=reward, champion=1)
    contestant = parse_contestant(label, problem)
    facts = RunFacts(problem, contestant)
    for arm, value in ((0, 1.0), (1, 0.0), (0, 1.0)):
        facts.add(arm, value)
    shares = facts.shares()
    assert sum(shares.values()) == pytest.approx(1)
    if contestant.learns:
        assert shares["arm-0"] > shares["arm-1"]
    else:
        assert [shares["arm-0"], shares["arm-1"]] == pytest.approx(contestant.fixed_shares(problem))
    message = declared("run", problem, contestant)
    assert message.limits.minimum_share == contestant.floor
    assert message.champion == "arm-1"
