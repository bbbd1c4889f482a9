"""A bot through a real server: it is named, and where units are counted it swings no belief."""

from collections import Counter
from collections.abc import Sequence

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration

from bandit.decision_id import hash_unit
from bandit.v1 import bandit_pb2, experiment_pb2
from server.cli.main import cli
from tests.conftest import Connect, StartServer
from tests.support.process import ServerProcess, eventually
from tests.support.wire import Wire, experiment, metric

BOT = "bot-7"
FLAGS = ("--lag-seconds", "0.2", "--poll-seconds", "0.05", "--epoch-interval-seconds", "0.05")
BATCH = 1_000


def ask(wire: Wire, name: str, units: Sequence[str]) -> list[bandit_pb2.ChooseResponse]:
    """Make a decision for each unit."""
    requests = [bandit_pb2.ChooseRequest(experiment=name, unit=unit) for unit in units]
    return [result.choice for result in wire.batch_choose(*requests)]


def click(wire: Wire, choices: Sequence[bandit_pb2.ChooseResponse]) -> None:
    """Post a click for each."""
    requests = [
        bandit_pb2.RewardRequest(decision_id=choice.decision_id, outcomes={"click": 1}) for choice in choices
    ]
    assert not requests or {result.reward.results["click"] for result in wire.batch_reward(*requests)} == {
        bandit_pb2.OUTCOME_RESULT_RECORDED
    }


def visit(wire: Wire, name: str, n_bot: int, n_people: int) -> None:
    """Let the bot click always, and of the people, who come once, every tenth on each arm."""
    for start in range(0, n_bot, BATCH):
        click(wire, ask(wire, name, [BOT] * min(BATCH, n_bot - start)))
    seen = Counter[str]()
    for start in range(0, n_people, BATCH):
        people = [f"user-{number}" for number in range(start, min(start + BATCH, n_people))]
        clicking = []
        for choice in ask(wire, name, people):
            seen[choice.arm] += 1
            if seen[choice.arm] % 10 == 0:
                clicking.append(choice)
        click(wire, clicking)


def running(wire: Wire, unit: "experiment_pb2.AnalysisUnit.ValueType") -> str:
    """Start an experiment whose window is three seconds, and whose arms are equal."""
    metrics = [metric("click", window=Duration(seconds=3), default_value=0.0)]
    return wire.running(metrics=metrics, analysis_unit=unit)


def told(server: ServerProcess, name: str, unit: str) -> list[str]:
    """Return what `bandit-server experiment unit` prints."""
    arguments = ["experiment", "unit", name, unit, "--server", server.address]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


@pytest.mark.parametrize(("n_bot", "n_people"), [(2_000, 650)])
def test_a_bot_counts_three_times_and_is_named(
    start_server: StartServer, connect: Connect, n_bot: int, n_people: int
) -> None:
    """Its other decisions move no belief; report and command name it by its mark."""
    server = start_server(*FLAGS)
    wire = connect(server)
    name = running(wire, experiment_pb2.ANALYSIS_UNIT_UNIT)
    assert told(server, name, BOT)[1] == "not heavy: the report does not list it"
    visit(wire, name, n_bot, n_people)

    def count(report: experiment_pb2.Report) -> float:
        return sum(arm.metrics[0].observations for arm in report.arms)

    report = eventually(lambda: wire.report(name), until=lambda seen: count(seen) == n_people + 3)
    assert sum(arm.metrics[0].outcomes for arm in report.arms) == pytest.approx(n_people / 10 + 3, abs=2)
    assert sum(arm.decisions.policy for arm in report.arms) == n_bot + n_people
    assert sum(arm.units for arm in report.arms) == n_people + 1
    assert max(arm.probability_best for arm in report.arms) < 0.9

    mark = hash_unit(bytes.fromhex(wire.get(name).salt), BOT.encode())
    (heavy,) = report.heavy_units
    assert (heavy.mark, heavy.group, heavy.decisions) == (mark.hex(), mark[0], n_bot)
    assert heavy.share == pytest.approx(n_bot / (n_bot + n_people))
    assert [note for note in report.notes if mark.hex() in note and "experiment unit" in note] != []
    place, verdict = told(server, name, BOT)
    assert place == f"mark {mark.hex()}, group {mark[0]}"
    assert verdict.startswith(f"heavy: it made {n_bot:,} policy decisions, ")
    assert told(server, name, "user-1")[1] == "not heavy: the report does not list it"


def test_where_decisions_count_the_group_of_a_bot_is_named(
    start_server: StartServer, connect: Connect
) -> None:
    """Units are not remembered, so the report names the group with too many of the decisions."""
    server = start_server(*FLAGS)
    wire = connect(server)
    name = running(wire, experiment_pb2.ANALYSIS_UNIT_DECISION)
    visit(wire, name, 400, 600)
    mark = hash_unit(bytes.fromhex(wire.get(name).salt), BOT.encode())
    report = wire.report(name)
    (heavy,) = report.heavy_units
    assert (heavy.mark, heavy.arm, heavy.group) == ("", "", mark[0])
    assert 400 <= heavy.decisions < 430
    assert sum(arm.units for arm in report.arms) == 0
    assert [note for note in report.notes if f"group {mark[0]} " in note] != []
    assert told(server, name, BOT)[1].startswith("perhaps heavy: its group made ")


def test_the_command_says_what_is_wrong(start_server: StartServer, connect: Connect) -> None:
    """An unknown experiment and an empty unit are errors; a draft has no decisions yet."""
    server = start_server(*FLAGS)
    wire = connect(server)
    draft = wire.create(experiment(name="draft")).name
    assert told(server, draft, BOT)[1] == "draft has not started"
    at = ["--server", server.address]
    unknown = CliRunner().invoke(cli, ["experiment", "unit", "nowhere", BOT, *at])
    assert (unknown.exit_code, "nowhere" in unknown.output) == (1, True)
    empty = CliRunner().invoke(cli, ["experiment", "unit", draft, "", *at])
    assert (empty.exit_code, "UNIT is empty" in empty.output) == (2, True)
