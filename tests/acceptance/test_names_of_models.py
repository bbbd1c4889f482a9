"""Arms and metrics with names as model registries give them: commands, pages and files hold them whole."""

import csv
import json
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pyarrow.parquet
import pytest

from bandit.client import BanditClient, Fallback, InvalidArgumentError, Question, Reward
from tests.support.postgresql import PostgresqlProcess
from tests.support.process import ServerProcess, eventually, run_command

LONG: Final = "registry.example.com:5000/team/" + "x" * 89 + "@sha-256"
ARMS: Final = ["openai/gpt-4.1", "resnet_50", "Llama-3.1:8b@v2", "llama-3.1:8b@v2", LONG]
UNITS: Final = [
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\U0001f469\u200d\U0001f680",
    "\u5c71\u7530\u3000\u592a\u90ce",
]
DECLARED: Final = f"""
name = "models"
description = "Zeile eins\\nZeile zwei \u0645\u06cc\u200c\u062e"
champion = "openai/gpt-4.1"
reward_metric = "thumbs_up"

[[arms]]
id = "openai/gpt-4.1"
model_uri = "models:/\u0645\u06cc\u200c\u062e"
[arms.payload]
text = "NUL \\u0000, U+2028 \\u2028, an escape \\u001b[31m"
"key \\u0000" = {{ deep = [[[[[[["\\u202e"]]]]]]] }}

[[arms]]
id = "resnet_50"

[[arms]]
id = "Llama-3.1:8b@v2"

[[arms]]
id = "llama-3.1:8b@v2"

[[arms]]
id = "{LONG}"

[[metrics]]
name = "thumbs_up"
kind = "binary"
window = "500ms"
default_value = 0

[[metrics]]
name = "p95.latency"
kind = "real"
maximum = 100
window = "500ms"
direction = "minimize"
guardrail = true

[limits]
minimum_share = 0.1
minimum_shares = {{ "openai/gpt-4.1" = 0.2, "Llama-3.1:8b@v2" = 0.15 }}
"""
FLAGS: Final[tuple[str, ...]] = (
    *("--poll-seconds", "0.1", "--lag-seconds", "0.2", "--epoch-interval-seconds", "0.05"),
    *("--metrics-listen", "127.0.0.1:0"),
)
Run = Callable[..., str]


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Start a server on each database, on PostgreSQL with a snapshot file; it must stop with 0."""
    url, flags = f"sqlite:///{tmp_path}/bandit.db", FLAGS
    if request.param == "postgresql":
        database: PostgresqlProcess = request.getfixturevalue("postgresql")
        url = database.create_database()
        flags = (*FLAGS, "--keys", str(tmp_path / "keys"), "--snapshot", str(tmp_path / "snapshot"))
    (tmp_path / "url").write_text(url)
    started = ServerProcess.start(tmp_path / "bandit.db", "--database", url, *flags)
    yield started
    assert started.terminate() == 0
    assert {each["level"] for each in started.events()} <= {"info", "warning"}


@pytest.fixture
def run(server: ServerProcess, tmp_path: Path) -> Run:
    """Run a command that must succeed, and return its output."""

    def invoke(*arguments: str, is_offline: bool = False) -> str:
        where = ("--database", (tmp_path / "url").read_text()) if is_offline else ("--server", server.address)
        done = run_command(*arguments, *where, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return invoke


def send(client: BanditClient, n_waves: int) -> None:
    """Choose for units of any script, and post both metrics of each decision."""
    generator = random.Random(7)
    for wave in range(n_waves):
        units = [f"{UNITS[number % len(UNITS)]} {wave} {number}" for number in range(100)]
        choices = client.batch_choose(
            [Question(experiment="models", fallback=Fallback("none"), unit=unit) for unit in units]
        )
        assert {choice.arm for choice in choices} <= set(ARMS)
        again = client.choose("models", unit=units[0], fallback=Fallback("none"))
        assert again.arm == choices[0].arm
        rewards = [
            Reward(choice, {"thumbs_up": float(generator.random() < 0.3), "p95.latency": 3.5})
            for choice in choices
        ]
        for result in client.batch_reward(rewards):
            assert not isinstance(result, Exception), result


def is_closed(run: Run) -> bool:
    """Return whether every arm's outcomes are counted in the report."""
    report = json.loads(run("report", "models", "--json"))
    return all(arm["metrics"][0]["observations"] > 0 for arm in report["arms"])


def test_names_of_models_are_whole_everywhere(
    server: ServerProcess, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file to the exported table, on both databases and in 40 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    (tmp_path / "models.toml").write_text(DECLARED)
    created = run("experiment", "apply", "models.toml")
    assert 'arms."openai/gpt-4.1".model_uri' in created
    assert 'metrics."p95.latency".kind' in created
    run("experiment", "start", "models")
    shown = run("experiment", "show", "models")
    (tmp_path / "shown.toml").write_text(shown)
    assert run("experiment", "apply", "shown.toml") == "models is unchanged\n"
    assert run("experiment", "apply", "models.toml") == "models is unchanged\n"

    with BanditClient(server.address, choose_timeout=10.0, batch_choose_timeout=10.0) as client:
        payload = client.choose("models", eligible_arms=["openai/gpt-4.1"], fallback=Fallback("x")).payload
        assert payload["text"] == "NUL \0, U+2028 \u2028, an escape \x1b[31m"
        assert payload["key \0"] == {"deep": [[[[[[["\u202e"]]]]]]]}
        send(client, 12)
        choice = client.choose("models", eligible_arms=["resnet_50"], fallback=Fallback("x"))
        with pytest.raises(InvalidArgumentError) as caught:
            client.reward(choice, {"p95.latency": 101.0})
        assert caught.value.field_violations[0].field == "outcomes['p95.latency']"

    chosen = json.loads(
        run("choose", "models", "--eligible", "Llama-3.1:8b@v2", "--unit", UNITS[0], "--json")
    )
    assert chosen["arm"] == "Llama-3.1:8b@v2"
    posted = run("reward", chosen["decision_id"], "p95.latency=3", "thumbs_up=1")
    assert [line.rpartition(": ")[0] for line in posted.splitlines()] == ["p95.latency", "thumbs_up"]
    assert run("experiment", "unit", "models", UNITS[0]).startswith("mark ")
    eventually(lambda: is_closed(run))

    split = "openai/gpt-4.1=50,Llama-3.1:8b@v2=50"
    page = tmp_path / "report.html"
    report = run("report", "models", "--split", split, "--metric", "p95.latency", "--html", str(page))
    assert "p95.latency" in run("report", "models", "--split", split)
    assert report == f"{page} is written\n"
    tree = ET.fromstring(page.read_text().partition("\n")[2])  # noqa: S314 - our own page
    texts = "\n".join(tree.itertext())
    for name in (*ARMS[:4], "p95.latency", "thumbs_up"):
        assert name in texts
    labels = f'arm="{LONG}",basis="policy",experiment="models"'
    assert labels in server.scrape()

    run("export", "models", "tables", is_offline=True)
    facts = pyarrow.parquet.read_table(tmp_path / "tables" / "facts.parquet").to_pylist()
    assert {row["arm"] for row in facts} == set(ARMS)
    assert {row["metric"] for row in facts} == {"thumbs_up", "p95.latency"}
    run("export", "models", "epochs.csv", "--table", "epochs", is_offline=True)
    with (tmp_path / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["arm"] for row in rows} == set(ARMS)
    assert "mean_p95.latency" in rows[0]

    run("experiment", "conclude", "models", "--winner", "Llama-3.1:8b@v2")
    assert "winner: None -> Llama-3.1:8b@v2" in run("audit")
    with BanditClient(server.address, choose_timeout=10.0, batch_choose_timeout=10.0) as client:
        assert client.choose("models", fallback=Fallback("x")).arm == "Llama-3.1:8b@v2"
