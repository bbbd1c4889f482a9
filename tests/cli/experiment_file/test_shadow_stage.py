"""A launch's shadow stage, from an experiment file to the domain, to the store's document, and back."""

from dataclasses import replace

from bandit.launch.plan import StageKind
from bandit.v1.experiment_pb2 import Experiment as Message
from bandit.validation import require_valid
from server.cli.experiment_file.file import format_experiment, parse_experiment
from server.rpc.messages.experiment import declaration_to_message, to_experiment
from server.store.declaration_json import document_of, from_document
from server.store.records import ExperimentRecord
from tests.bandit.builders import START

FILE = """
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
[[metrics]]
name = "error"
kind = "binary"
direction = "minimize"
shadow = true

[policy.thompson_sampling]

[limits]
champion_minimum_share = 0.2

[launch]
mode = "recommend"
cycle = "7d"
[[launch.stages]]
kind = "shadow"
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


def test_the_shortest_shadow_stage_sees_every_request() -> None:
    """`kind = "shadow"` is a stage: all of the champion's decisions, nine tenths of them mirrored."""
    declared = to_experiment(parse_experiment(FILE), bytes(16))
    require_valid(declared)
    assert declared.launch is not None
    first = declared.launch.stages[0]
    assert (first.kind, first.sample, first.minimum_mirrored) == (StageKind.SHADOW, 1.0, 0.9)
    assert [metric.is_shadow for metric in declared.metrics] == [False, True]


def test_a_shadow_stage_comes_back_as_it_was_written() -> None:
    """From the file to the domain, and over the store's document and the wire back to a file."""
    text = FILE.replace('kind = "shadow"', 'kind = "shadow"\nsample = 0.25\nminimum_mirrored = 0.5')
    declared = to_experiment(parse_experiment(text), bytes(16))
    stored = from_document(document_of(ExperimentRecord.draft(declared, START)))
    assert (stored.experiment, stored.unknown) == (declared, ())
    message: Message = declaration_to_message(stored.experiment)
    read = to_experiment(parse_experiment(format_experiment(message)), bytes(16))
    assert replace(read, salt=declared.salt) == declared


def test_a_document_without_shadow_metrics_has_no_new_key() -> None:
    """Code before 0.3.0 fails on a key inside a metric that it does not know."""
    declared = to_experiment(parse_experiment(FILE.replace("shadow = true", "")), bytes(16))
    assert "is_shadow" not in document_of(ExperimentRecord.draft(declared, START))
    assert "is_shadow" in document_of(
        ExperimentRecord.draft(to_experiment(parse_experiment(FILE), bytes(16)), START)
    )
