"""Experiment files: reading reports every error, and written files are read back unchanged."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.v1.experiment_pb2 import METRIC_ROLE_GUARDRAIL, METRIC_ROLE_SIGNAL, Experiment
from server.cli.experiment_file.durations import format_duration
from server.cli.experiment_file.example import EXAMPLE
from server.cli.experiment_file.file import (
    REFUSED,
    ExperimentFileError,
    format_experiment,
    parse_experiment,
    read_experiment,
)
from server.cli.experiment_file.toml_writer import TomlTable, dumps

RANKER = Path(__file__).parents[1] / "ranker.toml"
PROTO = Path(__file__).parents[3] / "protos/bandit/v1/experiment.proto"


texts = st.text(st.characters(codec="utf-8"), max_size=6)
doubles = st.floats(allow_nan=False, allow_infinity=False)
flags = st.booleans()
durations = st.integers(0, 10**9).map(lambda n: format_duration(Experiment().half_life.__class__(seconds=n)))
json_scalars = st.one_of(flags, doubles, texts, st.integers(-(2**53), 2**53))
json_values = st.recursive(
    json_scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=6,
)


def tables(**optional: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """Return a strategy of tables with any of these keys."""
    return st.fixed_dictionaries({}, optional=optional)


arms = tables(
    id=texts,
    model_uri=texts,
    digest=texts,
    taken_out=flags,
    payload=st.dictionaries(texts, json_values, max_size=3),
)
policies = st.one_of(
    st.sampled_from(["thompson_sampling", "epsilon_greedy", "static_split"]),
    tables(epsilon=doubles, decay_observations=doubles).map(lambda table: {"epsilon_greedy": table}),
    st.dictionaries(texts, doubles).map(lambda weights: {"static_split": {"weights": weights}}),
)
priors = st.one_of(
    tables(alpha=doubles, beta=doubles).map(lambda table: {"beta": table}),
    tables(mean=doubles, scale=doubles).map(lambda table: {"normal_inverse_gamma": table}),
)
metrics = tables(
    name=texts,
    kind=st.sampled_from(["binary", "real", "count"]),
    direction=st.sampled_from(["maximize", "minimize"]),
    minimum=doubles,
    maximum=doubles,
    clip=flags,
    window=durations,
    default_value=doubles,
    guardrail=flags,
    prior=priors,
    role=st.sampled_from(["guardrail", "signal"]),
    worse_by=st.dictionaries(st.sampled_from(["relative", "absolute"]), doubles, min_size=1, max_size=1),
)
limits = tables(
    minimum_share=doubles,
    minimum_shares=st.dictionaries(texts, doubles, max_size=2),
    maximum_share=doubles,
    warm_up_decisions=st.integers(0, 2**64 - 1),
    warm_up_duration=durations,
    champion_minimum_share=doubles,
)
stages = tables(
    kind=st.sampled_from(["canary", "ramp", "bandit"]),
    share=doubles,
    shares=st.lists(doubles, max_size=3),
    minimum_decisions=st.integers(0, 2**64 - 1),
    minimum_outcomes=st.integers(0, 2**64 - 1),
    minimum_duration=durations,
    whole_cycles=st.integers(0, 2**32 - 1),
    approval=flags,
    maximum_duration=durations,
)
launches = tables(
    stages=st.lists(stages, max_size=3),
    mode=st.sampled_from(["recommend", "automatic"]),
    cycle=durations,
    minimum_cycles=st.integers(0, 2**32 - 1),
    holdback=tables(share=doubles, cycles=st.integers(0, 2**32 - 1)),
    guardrail_action=st.sampled_from(["rollback", "recommend"]),
    on_no_data=st.sampled_from(["hold", "rollback"]),
    on_sample_ratio_alarm=st.sampled_from(["hold", "rollback"]),
    on_inconclusive=st.sampled_from(["end", "hold"]),
    after_holdback=st.sampled_from(["continue", "conclude"]),
)
files = tables(
    name=texts,
    description=texts,
    champion=texts,
    reward_metric=texts,
    arms=st.lists(arms, max_size=3),
    policy=policies,
    metrics=st.lists(metrics, max_size=2),
    limits=limits,
    launch=launches,
    half_life=durations,
    max_decision_age=durations,
    salt=texts,
    analysis_unit=st.sampled_from(["decision", "unit"]),
)


def problems_of(text: str) -> list[str]:
    """Return path and text of all problems of a file, which must have some."""
    with pytest.raises(ExperimentFileError) as caught:
        parse_experiment(text, "x.toml")
    assert str(caught.value).splitlines() == [
        f"x.toml: {each.path}: {each.text}" for each in caught.value.problems
    ]
    return [f"{each.path}: {each.text}" for each in caught.value.problems]


@given(files)
def test_file_to_message_to_file_to_message_is_identity(table: TomlTable) -> None:
    """Everything in a file survives being shown and applied again."""
    message = parse_experiment(dumps(table))
    assert parse_experiment(format_experiment(message)) == message


@given(files)
def test_the_text_of_a_message_is_stable(table: TomlTable) -> None:
    """A text that was read is written unchanged, so that every difference is a real one."""
    text = format_experiment(parse_experiment(dumps(table)))
    assert format_experiment(parse_experiment(text)) == text


def test_the_order_of_keys_in_a_payload_is_not_a_difference() -> None:
    """The text sorts the keys of maps, which have no order on the wire."""
    keys = [f"k{number:02}" for number in range(30)]
    texts_of_both = set()
    for order in (keys, keys[::-1]):
        experiment = Experiment()
        experiment.arms.add().payload.update(dict.fromkeys(order, 1))
        texts_of_both.add(format_experiment(experiment))
    (text,) = texts_of_both
    assert re.findall(r"k\d\d", text) == keys


def test_a_file_becomes_the_message_that_it_describes() -> None:
    """Enums, durations, numbers, maps, choices and payloads are converted correctly."""
    experiment = read_experiment(str(RANKER))
    assert experiment.policy.WhichOneof("kind") == "thompson_sampling"
    assert [arm.id for arm in experiment.arms] == ["v1", "v2"]
    assert dict(experiment.arms[1].payload) == {"temperature": 0.2, "layers": [64, 32]}
    click, latency = experiment.metrics
    assert (click.kind, click.window.seconds, click.HasField("default_value")) == (1, 3_600, True)
    assert (latency.direction, latency.maximum, latency.HasField("default_value")) == (2, 2_000, False)
    assert experiment.limits.minimum_shares == {"v1": 0.2}


def test_the_example_is_a_complete_experiment() -> None:
    """The output of `experiment example` can be applied unchanged."""
    experiment = parse_experiment(EXAMPLE)
    assert experiment.champion in {arm.id for arm in experiment.arms}
    assert experiment.reward_metric in {metric.name for metric in experiment.metrics}


def test_the_example_explains_every_key() -> None:
    """Every key of the format is in the example, where users look for it."""
    known = {name for message in _messages(Experiment.DESCRIPTOR.full_name) for name in message}
    assert {name for name in known - REFUSED.keys() if not re.search(rf"\b{name}\b", EXAMPLE)} == set()


def test_every_commented_line_of_the_example_is_valid() -> None:
    """With its `#` removed, each optional key is valid."""
    lines = (re.sub(r"^# (?=\[|\w+ = )", "", line) for line in EXAMPLE.splitlines())
    text = "\n".join(lines).replace('policy = "thompson_sampling"', "")
    one_policy = re.sub(r"\[policy\.static_split\.weights\].*?\n\n", "", text, flags=re.DOTALL)
    for prior in ("beta", "normal_inverse_gamma", "gamma"):
        others = {"beta", "normal_inverse_gamma", "gamma"} - {prior}
        one_prior = one_policy
        for other in others:
            one_prior = re.sub(rf"\[metrics\.prior\.{other}\].*?\n\n", "\n", one_prior, flags=re.DOTALL)
        assert (
            parse_experiment(one_prior).metrics[0 if prior == "beta" else 1].prior.WhichOneof("kind") == prior
        )


@pytest.mark.parametrize("key", ["guardrail = true", 'role = "guardrail"'])
def test_a_guardrail_has_two_spellings(key: str) -> None:
    """Both are sent as both fields, since an older service knows only one, and are shown as the older one."""
    experiment = parse_experiment(f'[[metrics]]\nname = "error"\n{key}')
    (error,) = experiment.metrics
    assert (error.guardrail, error.role) == (True, METRIC_ROLE_GUARDRAIL)
    assert format_experiment(experiment) == '[[metrics]]\nname = "error"\nguardrail = true'


def test_a_signal_with_a_margin_is_shown_as_it_was_written() -> None:
    """Role and margin come back as the file has them, in one table each."""
    text = '[[metrics]]\nname = "error"\nrole = "signal"\n\n[metrics.worse_by]\nrelative = 0.1'
    experiment = parse_experiment(text)
    (error,) = experiment.metrics
    assert (error.guardrail, error.role, error.worse_by.relative) == (False, METRIC_ROLE_SIGNAL, 0.1)
    assert parse_experiment(format_experiment(experiment)) == experiment
    assert format_experiment(experiment) == text


def test_output_only_keys_are_refused() -> None:
    """The refused keys are those that the proto marks as output only, and the etag."""
    body = PROTO.read_text().partition("message Experiment {")[2].partition("\n}")[0]
    fields = re.findall(r"((?:  //.*\n)+)  (?:repeated )?[\w.]+ (\w+) = \d+;", body)
    assert {name for comment, name in fields if "Output only." in comment} | {"etag"} == set(REFUSED)
    for name in REFUSED:
        (problem,) = problems_of(f'{name} = "x"')
        assert problem.startswith(f"{name}: is set by the service, not by a file")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('descripton = "x"', "descripton: no such key; did you mean description?"),
        ('[[arms]]\nmodle_uri = "x"', "arms[0].modle_uri: no such key; did you mean model_uri?"),
        ("[limits]\nzzz = 1", "limits.zzz: no such key; there are minimum_share, minimum_shares, "),
        ("name = 5", "name: must be a string, got 5"),
        ("arms = 1", "arms: must be an array of tables, [[arms]], got 1"),
        ("arms = [1]", "arms[0]: must be a table, got 1"),
        ("limits = 1", "limits: must be a table, got 1"),
        ("[[arms]]\ntaken_out = 1", "arms[0].taken_out: must be true or false, got 1"),
        (
            '[[metrics]]\nkind = "binray"',
            'metrics[0].kind: must be one of "binary", "real", "count", got "binray"',
        ),
        ('[[metrics]]\nkind = "unspecified"', 'metrics[0].kind: must be one of "binary", "real", "count"'),
        (
            '[[metrics]]\nkind = "METRIC_KIND_REAL"',
            'metrics[0].kind: must be one of "binary", "real", "count"',
        ),
        ("[[metrics]]\nkind = 1", 'metrics[0].kind: must be one of "binary", "real", "count", got 1'),
        ('[[metrics]]\nmaximum = "1"', 'metrics[0].maximum: must be a number, got "1"'),
        ("[[metrics]]\nmaximum = true", "metrics[0].maximum: must be a number, got true"),
        ("[[metrics]]\nmaximum = inf", "metrics[0].maximum: must be a finite number, got inf"),
        ("[[metrics]]\nmaximum = nan", "metrics[0].maximum: must be a finite number, got nan"),
        (f"[[metrics]]\nmaximum = 1{'0' * 400}", "metrics[0].maximum: must be a finite number, got 1000"),
        ("[[metrics]]\nwindow = 60", "metrics[0].window: must be a duration such as"),
        ('[[metrics]]\nwindow = "1.5h"', 'metrics[0].window: must be a duration such as "250ms"'),
        ("[limits]\nwarm_up_decisions = -1", "limits.warm_up_decisions: must be a whole number from 0 to"),
        ("[limits]\nwarm_up_decisions = 1.0", "limits.warm_up_decisions: must be a whole number from 0 to"),
        (
            f"[limits]\nwarm_up_decisions = {2**64}",
            "limits.warm_up_decisions: must be a whole number from 0 to",
        ),
        ('[[metrics]]\nworse_by = "relative"', 'metrics[0].worse_by: must be a table, got "relative"'),
        ("[[metrics]]\nworse_by = 0.1", "metrics[0].worse_by: must be a table, got 0.1"),
        (
            "[[metrics]]\nworse_by = { relative = 0.1, absolute = 1 }",
            "metrics[0].worse_by: must have exactly one of relative, absolute",
        ),
        ('[[metrics]]\nrole = "goal"', 'metrics[0].role: must be one of "guardrail", "signal", got "goal"'),
        ('[limits.minimum_shares]\nv1 = "x"', 'limits.minimum_shares["v1"]: must be a number, got "x"'),
        (
            'policy = "thompson"',
            "policy: must be one of thompson_sampling, epsilon_greedy, static_split, got",
        ),
        ("[policy]", "policy: must have exactly one of thompson_sampling, epsilon_greedy, static_split"),
        (
            "policy = {thompson_sampling = {}, static_split = {}}",
            "policy: must have exactly one of thompson_sampling, epsilon_greedy, static_split",
        ),
        (
            "[[arms]]\npayload = {at = 2026-11-22}",
            "arms[0].payload.at: must be a JSON value: write 2026-11-22",
        ),
        ("[[arms]]\npayload = {a = [1, inf]}", "arms[0].payload.a[1]: must be a finite number, got inf"),
        (
            f"[[arms]]\npayload = {{a = {2**53 + 1}}}",
            "arms[0].payload.a: must be at most 2^53, or JSON rounds it",
        ),
        ("launch = 1", "launch: must be a table, got 1"),
        ("[launch]\nstages = 1", "launch.stages: must be an array of tables, [[launch.stages]], got 1"),
        (
            '[[launch.stages]]\nkind = "dark"',
            'launch.stages[0].kind: must be one of "shadow", "canary", "ramp", "bandit", got "dark"',
        ),
        (
            "[[launch.stages]]\nshares = 0.1",
            "launch.stages[0].shares: must be an array, [0.05, 0.1], got 0.1",
        ),
        ("[[launch.stages]]\nshares = {}", "launch.stages[0].shares: must be an array, [0.05, 0.1], got {}"),
        (
            '[[launch.stages]]\nshares = [0.1, "0.2"]',
            'launch.stages[0].shares[1]: must be a number, got "0.2"',
        ),
        ("[[launch.stages]]\nshares = [[0.1]]", "launch.stages[0].shares[0]: must be a number, got [0.1]"),
        ("[[launch.stages]]\nshares = [true]", "launch.stages[0].shares[0]: must be a number, got true"),
        ("[[launch.stages]]\nshares = [nan]", "launch.stages[0].shares[0]: must be a finite number, got nan"),
        ("[[launch.stages]]\nshare = [0.1]", "launch.stages[0].share: must be a number, got [0.1]"),
        ("[[launch.stages]]\napproval = 1", "launch.stages[0].approval: must be true or false, got 1"),
        (
            "[[launch.stages]]\nwhole_cycles = -1",
            "launch.stages[0].whole_cycles: must be a whole number from 0 to 4,294,967,295, got -1",
        ),
        (
            "[[launch.stages]]\nminimum_duraton = 1",
            "launch.stages[0].minimum_duraton: no such key; did you mean",
        ),
        ('[launch]\nmode = "auto"', 'launch.mode: must be one of "recommend", "automatic", got "auto"'),
        ('[launch]\non_no_data = "pass"', 'launch.on_no_data: must be one of "hold", "rollback", got "pass"'),
        ("[launch]\ncycle = 7", "launch.cycle: must be a duration such as"),
        ("[launch]\nholdback = 0.1", "launch.holdback: must be a table, got 0.1"),
    ],
)
def test_a_problem_names_path_rule_and_value(text: str, problem: str) -> None:
    """Each problem is one line with path, rule and value."""
    (found,) = problems_of(text)
    assert found.startswith(problem)


def test_all_problems_are_found_at_once() -> None:
    """One run reports all problems of a file."""
    assert [line.partition(":")[0] for line in problems_of("name = 1\nx = 2\n[[arms]]\nid = 3")] == [
        "name",
        "x",
        "arms[0].id",
    ]


@pytest.mark.parametrize("content", [b"name = ", b"\xff", b"x = " + b"[" * 9_999])
def test_a_file_that_is_not_toml_is_one_line(content: bytes, tmp_path: Path) -> None:
    """Broken syntax, a wrong encoding and deep nesting are each an error of one line."""
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ExperimentFileError) as caught:
        read_experiment(str(file))
    assert re.fullmatch(rf"{re.escape(str(file))}: not (TOML|UTF-8): .+", str(caught.value))


def test_a_missing_file_is_one_line() -> None:
    """The error has the name and the reason."""
    with pytest.raises(ExperimentFileError, match=r"^no\.toml: no such file or directory$"):
        read_experiment("no.toml")


def _messages(name: str) -> list[list[str]]:
    """Return the field names of the message `name` and of every message of the package below it."""
    found: dict[str, list[str]] = {}
    pending = [Experiment.DESCRIPTOR]
    while pending:
        descriptor = pending.pop()
        if descriptor.full_name in found or descriptor.file.package != "bandit.v1":
            continue
        if descriptor.GetOptions().map_entry:
            continue
        found[descriptor.full_name] = list(descriptor.fields_by_name)
        pending.extend(
            field.message_type
            for field in descriptor.fields
            if field.message_type and field.name not in REFUSED
        )
    assert name in found
    return list(found.values())
