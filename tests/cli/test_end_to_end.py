"""Every command against a real server, as an operator would use it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from bandit.client import BanditClient
from bandit.v1.experiment_pb2 import Experiment
from server.cli.experiment_file.difference import Change, changes
from tests.support.process import ServerProcess, run_command

RANKER = (Path(__file__).parent / "ranker.toml").read_text()
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start one server for the tests of this file, each of which has its own experiment."""
    server = ServerProcess.start(tmp_path_factory.mktemp("server") / "bandit.db")
    yield server
    assert server.terminate() == 0


@pytest.fixture
def server(process: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """Set `BANDIT_SERVER` to the server's address."""
    monkeypatch.setenv("BANDIT_SERVER", process.address)
    return process


def write(name: str, text: str = RANKER) -> str:
    """Write the example under another name, and return the file's name."""
    Path(f"{name}.toml").write_text(text.replace('name = "ranker"', f'name = "{name}"'))
    return f"{name}.toml"


def succeed(run: Run, *arguments: str) -> str:
    """Run a command, which must succeed, and return its output."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("server")
def test_apply_creates_then_changes_nothing_then_updates(run: Run) -> None:
    """The same command creates, changes nothing or updates, and prints which."""
    file = write("applied")
    created = succeed(run, "experiment", "apply", file)
    assert re.search(r'^\+ arms\.v1\.model_uri +"models:/ranker/1"$', created, re.MULTILINE)
    assert "applied is created" in created
    assert succeed(run, "experiment", "apply", file) == "applied is unchanged\n"
    write("applied", RANKER.replace("minimum_share = 0.05", "minimum_share = 0.1"))
    assert succeed(run, "experiment", "apply", file) == (
        "~ limits.minimum_share  0.05 → 0.1\napplied is updated\n"
    )
    assert "minimum_share = 0.1" in succeed(run, "experiment", "show", "applied")


@pytest.mark.usefixtures("server")
def test_apply_gives_hints_on_what_makes_evidence_impossible(run: Run) -> None:
    """Before the start from the declaration, and once it runs from the report as well; none without need."""
    assert "hint: " not in succeed(run, "experiment", "apply", write("sound"))
    bare = RANKER.replace("minimum_share = 0.05", "").replace('window = "1h"\nguardrail', "guardrail")
    created = succeed(run, "experiment", "apply", write("bare", bare))
    assert "hint: limits.minimum_share: without one the policy may leave " in created
    assert "hint: latency-ms has no window, so there is no evidence on it" in created
    succeed(run, "experiment", "start", "bare")
    changed = write("bare", bare.replace("[limits]", "[limits]\nmaximum_share = 0.9"))
    updated = succeed(run, "experiment", "apply", changed)
    assert updated.count("hint: latency-ms has no window") == 1


@pytest.mark.usefixtures("server")
def test_apply_and_show_print_the_step_of_values(run: Run) -> None:
    """Both print the step of each metric with real values; apply only when the metric is new or changes."""
    text = RANKER.replace(
        "[[metrics]]", '[[metrics]]\nname = "worth"\nkind = "real"\nmaximum = 10_000_000\n\n[[metrics]]', 1
    )
    sentence = "values of worth are stored as posted and counted in steps of 9.09e-06"
    assert f"note: {sentence}\n" in succeed(run, "experiment", "apply", write("fine", text))
    assert f"# {sentence}\n" in succeed(run, "experiment", "show", "fine")
    assert "worth" not in succeed(run, "experiment", "apply", write("coarse"))
    assert f"note: {sentence}\n" in succeed(run, "experiment", "apply", write("coarse", text))
    assert succeed(run, "experiment", "apply", write("coarse", text)) == "coarse is unchanged\n"


@pytest.mark.usefixtures("server")
def test_a_dry_run_shows_the_difference_without_applying_it(run: Run) -> None:
    """A dry run changes nothing, whether the experiment exists or not."""
    file = write("dry")
    assert "dry would be created; nothing was changed" in succeed(
        run, "experiment", "apply", file, "--dry-run"
    )
    assert run("experiment", "show", "dry").exit_code == 1
    succeed(run, "experiment", "apply", file)
    write("dry", RANKER.replace("minimum_share = 0.05", "minimum_share = 0.1"))
    shown = succeed(run, "experiment", "apply", file, "--dry-run")
    assert shown.endswith("dry would be updated; nothing was changed\n")
    assert "minimum_share = 0.05" in succeed(run, "experiment", "show", "dry")


@pytest.mark.usefixtures("server")
def test_the_output_of_show_can_be_applied(run: Run) -> None:
    """The output is a file of the current experiment, and applying it changes nothing."""
    succeed(run, "experiment", "apply", write("shown"))
    text = succeed(run, "experiment", "show", "shown")
    assert text.startswith("# shown: draft")
    assert run("experiment", "apply", "-", text=text).stdout == "shown is unchanged\n"


@pytest.mark.usefixtures("server")
def test_the_example_can_be_applied(run: Run) -> None:
    """The printed example can be applied unchanged."""
    result = run("experiment", "apply", "-", text=succeed(run, "experiment", "example"))
    assert "ranker is created" in result.stdout


@pytest.mark.usefixtures("server")
def test_a_removed_arm_is_noted(run: Run) -> None:
    """A note names the removed arm, whose id can't be used again."""
    file = write("leaving")
    succeed(run, "experiment", "apply", file)
    without = re.sub(r'\[\[arms\]\]\nid = "v2".*?(?=\[\[metrics)', "", RANKER, flags=re.DOTALL)
    write("leaving", without)
    assert "note: arm v2 is removed" in succeed(run, "experiment", "apply", file)


@pytest.mark.usefixtures("server")
def test_a_rule_of_the_service_points_into_the_file(run: Run) -> None:
    """An error of the service is printed with file, key and rule."""
    file = write("wrong", RANKER.replace('champion = "v1"', 'champion = "v9"'))
    result = run("experiment", "apply", file)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: wrong.toml: champion: ")


def test_what_someone_else_changed_meanwhile_is_not_overwritten(
    server: ServerProcess, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apply changes only the version that it compared, and fails if another came in between."""
    file = write("raced")
    succeed(run, "experiment", "apply", file)

    def compare_too_slowly(before: Experiment, after: Experiment) -> list[Change]:
        with BanditClient(server.address) as client:
            other = client.experiments.get("raced")
            other.description = "theirs"
            client.experiments.update(other)
        return changes(before, after)

    monkeypatch.setattr("server.cli.commands.apply.changes", compare_too_slowly)
    write("raced", RANKER.replace("minimum_share = 0.05", "minimum_share = 0.1"))
    result = run("experiment", "apply", file)
    assert result.exit_code == 1
    assert result.stderr == "error: raced was changed by someone else meanwhile: apply again\n"
    assert 'description = "theirs"' in succeed(run, "experiment", "show", "raced")


@pytest.mark.usefixtures("server")
def test_a_payload_is_shown_in_its_own_letters(run: Run) -> None:
    """A person reads it; JSON for machines stays ASCII."""
    write("letters", RANKER.replace("temperature = 0.2", 'text = "می‌خواهم 👩‍💻"'))
    succeed(run, "experiment", "apply", "letters.toml")
    succeed(run, "experiment", "start", "letters")
    eligible = ("choose", "letters", "--eligible", "v2")
    assert '"text": "می‌خواهم 👩‍💻"' in succeed(run, *eligible)
    assert succeed(run, *eligible, "--json").isascii()


@pytest.mark.usefixtures("server")
def test_the_life_of_an_experiment(run: Run) -> None:
    """Commands take an experiment from draft to deletion."""
    succeed(run, "experiment", "apply", write("life"))
    assert run("choose", "life").exit_code == 1
    assert succeed(run, "experiment", "start", "life") == "life is running\n"
    assert "running" in succeed(run, "experiment", "list")
    choice = json.loads(succeed(run, "choose", "life", "--unit", "u1", "--json"))
    assert choice["arm"] in {"v1", "v2"}
    assert succeed(run, "reward", choice["decision_id"], "click=1", "latency-ms=120") == (
        "click: recorded\nlatency-ms: recorded\n"
    )
    assert succeed(run, "reward", choice["decision_id"], "click=1") == "click: duplicate\n"
    assert run("reward", choice["decision_id"], "click=0").exit_code == 1
    assert succeed(run, "reward", choice["decision_id"], "click=0", "--revision", "1") == "click: revised\n"
    assert succeed(run, "experiment", "pause", "life") == "life is paused: v1 answers\n"
    assert "reason       paused" in succeed(run, "choose", "life")
    assert (
        succeed(run, "experiment", "conclude", "life", "--winner", "v2") == "life is concluded: v2 answers\n"
    )
    assert json.loads(succeed(run, "choose", "life", "--json"))["arm"] == "v2"
    assert succeed(run, "experiment", "delete", "life") == "life is deleted\n"
    assert run("experiment", "show", "life").exit_code == 1


@pytest.mark.usefixtures("server")
def test_a_tally_counts_every_choice(run: Run) -> None:
    """The tally covers several batches, and a unit always gets the same arm."""
    succeed(run, "experiment", "apply", write("tally"))
    succeed(run, "experiment", "start", "tally")
    tally = json.loads(succeed(run, "choose", "tally", "--count", "1500", "--json"))["tally"]
    assert sum(row["count"] for row in tally) == 1_500
    assert {row["arm"] for row in tally} == {"v1", "v2"}
    sticky = json.loads(succeed(run, "choose", "tally", "--count", "20", "--unit", "u", "--json"))["tally"]
    assert [row["count"] for row in sticky] == [20]
    (row,) = json.loads(succeed(run, "choose", "tally", "--count", "9", "--eligible", "v2", "--json"))[
        "tally"
    ]
    assert (row["arm"], row["count"]) == ("v2", 9)


@pytest.mark.usefixtures("server")
def test_a_report_is_a_table_and_json(run: Run) -> None:
    """Both show the same report, and JSON has the names of the proto."""
    succeed(run, "experiment", "apply", write("reported"))
    assert run("report", "reported").exit_code == 1
    succeed(run, "experiment", "start", "reported")
    assert "P(best)" in succeed(run, "report", "reported")
    report = json.loads(succeed(run, "report", "reported", "--json"))
    assert report["reward_metric"] == "click"
    assert [arm["arm"] for arm in report["arms"]] == ["v1", "v2"]
    assert {"share", "out_of_service", "probability_best"} <= report["arms"][0].keys()


@pytest.mark.usefixtures("server")
def test_the_list_is_machine_readable(run: Run) -> None:
    """JSON lists experiments in the order of their names."""
    succeed(run, "experiment", "apply", write("listed"))
    names = [each["name"] for each in json.loads(succeed(run, "experiment", "list", "--json"))["experiments"]]
    assert "listed" in names
    assert names == sorted(names)


def test_the_log_is_verified_and_rebuilt_with_the_server_stopped(
    run: Run, start_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After SIGTERM and exit code 0, the sums equal the log, before and after a rebuild."""
    server = start_server()
    monkeypatch.setenv("BANDIT_SERVER", server.address)
    succeed(run, "experiment", "apply", write("logged"))
    succeed(run, "experiment", "start", "logged")
    for _ in range(5):
        decision_id = json.loads(succeed(run, "choose", "logged", "--json"))["decision_id"]
        succeed(run, "reward", decision_id, "click=1", "latency-ms=10")
    assert server.terminate() == 0
    clean = "clean: 10 outcomes of 1 experiment add up to exactly what is stored\n"
    assert succeed(run, "verify", "--database", server.url) == clean
    assert succeed(run, "rebuild", "--database", server.url).startswith("rebuilt: 10 outcomes")
    assert succeed(run, "verify", "--database", server.url) == clean


def test_a_second_server_on_one_file_is_refused(server: ServerProcess, run: Run, tmp_path: Path) -> None:
    """The second exits with one line of error, and the first continues."""
    done = run_command("serve", "--listen", "127.0.0.1:0", "--database", server.url, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    succeed(run, "experiment", "list")
