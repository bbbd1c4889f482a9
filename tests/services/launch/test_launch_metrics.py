"""Metrics of launches: the figures of the last look, on the server that looks."""

from dataclasses import replace

from server.app.metrics.launches import LaunchCollector
from server.services.launch.verbs import Verb
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import BANDIT, CANARY, CLICK, NAME, SEEN, Launched, declared


def scraped(at: Launched, family: str) -> dict[tuple[str, ...], float]:
    """Return labels to value of a metric, without experiment and arm, which are the same in all."""
    collector = LaunchCollector(at.service._services, max_series=100)
    (found,) = [each for each in collector.collect() if each.name == family]
    values = {}
    for sample in found.samples:
        labels = dict(sample.labels)
        assert (labels.pop("experiment"), labels.pop("arm")) == (NAME, "v2")
        values[tuple(labels.values())] = sample.value
    return values


def test_states_gates_holds_and_claims_are_exported(launch: Launch) -> None:
    """They are those of `launch show`."""
    stage = replace(CANARY, minimum_decisions=10**6)
    at = launch(declared(stages=[stage, BANDIT], metrics=[CLICK, SEEN]))
    at.steps(3)
    at.act(Verb.HOLD)
    at.step()
    view = at.view()
    assert scraped(at, "bandit_launch_arm") == {("canary", "canary at 10 %"): 1}
    assert scraped(at, "bandit_launch_hold") == {("operator", ""): 1}
    assert scraped(at, "bandit_launch_gate_figure") == {(gate.name,): gate.figure for gate, _ in view.gates}
    assert scraped(at, "bandit_launch_gate_threshold") == {("minimum_decisions",): 10**6}
    values, levels = (scraped(at, f"bandit_launch_log_{name}") for name in ("e_value", "level"))
    assert values == {(claim.kind, claim.metric): claim.log_e_value for claim, _ in view.claims}
    assert levels == {(claim.kind, claim.metric): claim.log_level for claim, _ in view.claims}
    assert values.keys() == {("better", "click"), ("harm", "error")}
