"""The difference that `experiment apply` shows."""

from pathlib import Path

from bandit.v1.experiment_pb2 import Experiment
from server.cli.experiment_file.difference import changes
from server.cli.experiment_file.file import read_experiment

RANKER = Path(__file__).parents[1] / "ranker.toml"


def ranker() -> Experiment:
    """Return a new copy of the example."""
    return read_experiment(str(RANKER))


def lines(before: Experiment, after: Experiment) -> list[str]:
    """Return the lines of the difference as printed, without alignment."""
    return [f"{change.sign} {change.path} {change.text}" for change in changes(before, after)]


def test_equal_experiments_do_not_differ() -> None:
    """Equal experiments have no difference, and neither do those that differ in output-only fields."""
    stored = ranker()
    stored.winner = "v2"
    stored.etag = "7"
    assert changes(ranker(), stored) == []


def test_a_changed_value_shows_old_and_new() -> None:
    """A changed value is shown with its path, and unchanged values are not."""
    after = ranker()
    after.limits.minimum_share = 0.1
    after.arms[1].taken_out = True
    assert lines(ranker(), after) == [
        "~ limits.minimum_share 0.05 → 0.1",
        "+ arms.v2.taken_out true",
    ]


def test_arms_are_matched_by_id() -> None:
    """Removing the first arm does not make all others differ."""
    after = ranker()
    del after.arms[0]
    found = lines(ranker(), after)
    assert '- arms.v1.model_uri "models:/ranker/1"' in found
    assert not any("arms.v2" in line for line in found)


def test_another_order_is_a_difference() -> None:
    """Another order of arms is a difference, as reports follow it."""
    after = ranker()
    after.arms.reverse()
    assert lines(ranker(), after) == ["~ order of arms v1, v2 → v2, v1"]


def test_another_policy_shows_both_policies() -> None:
    """A policy is replaced as a whole."""
    after = ranker()
    after.policy.epsilon_greedy.epsilon = 0.1
    assert lines(ranker(), after) == [
        '- policy "thompson_sampling"',
        "+ policy.epsilon_greedy.epsilon 0.1",
    ]


def test_a_key_with_a_dot_is_not_a_table() -> None:
    """Keys in paths are quoted if they would be ambiguous."""
    before, after = ranker(), ranker()
    before.arms[0].payload.update({"a.b": 1})
    after.arms[0].payload.update({"a": {"b": 1}})
    assert lines(before, after) == ['- arms.v1.payload."a.b" 1', "+ arms.v1.payload.a.b 1"]


def test_an_empty_arm_is_shown() -> None:
    """An arm with nothing but an id is shown as an empty table."""
    after = ranker()
    after.arms.add(id="v3")
    assert lines(ranker(), after) == ["+ arms.v3 {}"]
