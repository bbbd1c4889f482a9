"""The `[launch]` table of an experiment file: read, printed and read again, it means the same."""

import re
from datetime import timedelta

from bandit.launch.plan import Holdback, LaunchPlan, Mode, Stage, StageKind
from bandit.validation import require_valid
from server.cli.experiment_file.example import EXAMPLE
from server.cli.experiment_file.file import format_experiment, parse_experiment
from server.rpc.messages.experiment import declaration_to_message, to_experiment

LAUNCH = """
name = "ranker"
champion = "v1"
reward_metric = "click"

[[arms]]
id = "v1"

[[arms]]
id = "v2"

[[metrics]]
name = "click"
kind = "binary"

[limits]
champion_minimum_share = 0.2

[launch]
mode = "recommend"
cycle = "7d"

[[launch.stages]]
kind = "canary"
share = 0.01

[[launch.stages]]
kind = "ramp"
shares = [0.05, 0.10, 0.25]

[[launch.stages]]
kind = "bandit"

[launch.holdback]
share = 0.05
cycles = 1
"""


def test_a_launch_in_a_file_becomes_the_plan_that_it_describes() -> None:
    """What is left out has its default, and the experiment keeps every rule."""
    experiment = to_experiment(parse_experiment(LAUNCH), bytes(16))
    require_valid(experiment)
    assert experiment.limits.champion_minimum_share == 0.2
    assert experiment.launch == LaunchPlan(
        stages=(
            Stage(kind=StageKind.CANARY, share=0.01),
            Stage(kind=StageKind.RAMP, shares=(0.05, 0.1, 0.25)),
            Stage(kind=StageKind.BANDIT),
        ),
        mode=Mode.RECOMMEND,
        cycle=timedelta(days=7),
        holdback=Holdback(share=0.05, cycles=1),
    )


def test_a_launch_reads_prints_and_reads_the_same() -> None:
    """Also once the service has said it back: the text it gives is stable, and means the same."""
    message = parse_experiment(LAUNCH)
    said_back = declaration_to_message(to_experiment(message, bytes(16)))
    for each in (message, said_back):
        text = format_experiment(each)
        assert parse_experiment(text) == each
        assert format_experiment(parse_experiment(text)) == text
        assert "shares = [0.05, 0.1, 0.25]" in text
    again = to_experiment(parse_experiment(format_experiment(said_back)), bytes(16))
    assert again == to_experiment(message, bytes(16))


def test_the_launch_of_the_example_keeps_every_rule() -> None:
    """Without the `#` before it, and without the warm-up that it replaces, the example can be applied."""
    before, launch = EXAMPLE.split("# [launch]\n")
    lines = (re.sub(r"^# (?=\[|\w+ = )", "", line) for line in ("# [launch]", *launch.splitlines()))
    text = "\n".join((re.sub("(?m)^warm_up_.*$", "", before), *lines))
    experiment = to_experiment(parse_experiment(text), bytes(16))
    require_valid(experiment)
    assert experiment.launch is not None
    assert [stage.kind for stage in experiment.launch.stages] == list(StageKind)
