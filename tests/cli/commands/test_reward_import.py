"""`bandit-server reward import`: what it reads, what it posts, and what it writes about what was refused."""

import json
import re
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bandit.client import BanditClient, Fallback, Question
from benchmarks.harness.processes import clean_environment, free_port
from server.cli.commands.reward.layout import LayoutError, RowError, recognise
from tests.cli.conftest import Run
from tests.conftest import StartServer
from tests.support.ledger import query
from tests.support.process import ServerProcess, command, eventually
from tests.support.wire import Wire, experiment, metric

NOBODY = "127.0.0.1:1"


@pytest.fixture
def decisions(shared_process: ServerProcess, shared_wire: Wire, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ten decisions of an experiment with two metrics, on the server that `BANDIT_SERVER` names."""
    monkeypatch.setenv("BANDIT_SERVER", shared_process.address)
    return decide(shared_process.address, shared_wire.running(metrics=[metric("click"), metric("paid")]), 10)


def decide(address: str, name: str, n_decisions: int) -> list[str]:
    """Return the ids of decisions of an experiment."""
    question = Question(experiment=name, fallback=Fallback("none"))
    with BanditClient(address, batch_choose_timeout=60.0) as client:
        return [
            choice.decision_id
            for start in range(0, n_decisions, 1000)
            for choice in client.batch_choose([question] * min(1000, n_decisions - start))
        ]


def table(*rows: Sequence[object], separator: str = ",", end: str = "\n") -> str:
    """Return the text of a file with these rows."""
    return "".join(separator.join(map(str, row)) + end for row in rows)


def counts(run: Run, *arguments: str, exit_code: int = 0) -> dict[str, object]:
    """Import with `--json`; return what is not 0, outcomes and the rest in one."""
    result = run("reward", "import", *arguments, "--json")
    assert result.exit_code == exit_code, result.output
    found = json.loads(result.stdout)
    outcomes = found.pop("outcomes")
    return {name: n for name, n in {**found, **outcomes}.items() if n}


def test_a_row_for_each_outcome(run: Run, decisions: list[str]) -> None:
    """Rows of decision, metric, value and revision are posted; a second time they are duplicates."""
    rows: list[tuple[object, ...]] = [(each, "click", number % 2, 0) for number, each in enumerate(decisions)]
    rows += [(decisions[0], "paid", 1, ""), (decisions[0], "click", 1, 1), (decisions[0], "click", 0, 0)]
    Path("late.csv").write_text(table(("decision_id", "metric", "value", "revision"), *rows))
    assert counts(run, "late.csv")["recorded"] == 11
    again = counts(run, "late.csv")
    assert again == {"rows": 13, "duplicate": 11, "superseded": 2}


def test_a_column_for_each_metric(run: Run, decisions: list[str]) -> None:
    """A column for each metric is posted as one reward of the decision; an empty cell is no outcome."""
    rows = [(decisions[0], 1, 0), (decisions[1], "", 1), (decisions[2], "true", ""), (decisions[3], "", "")]
    Path("late.csv").write_text(table(("decision_id", "click", "paid"), *rows, ("", 1, 1)))
    assert counts(run, "late.csv") == {"rows": 5, "recorded": 4, "empty_rows": 1, "fallback_rows": 1}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_spreadsheets(separator: str, end: str, run: Run, decisions: list[str]) -> None:
    """A byte order mark, CRLF, other separators, quotes, spaces, empty lines and upper case are read."""
    header = ("DECISION_ID", '"Metric"', " VALUE ", "Comment")
    rows = [(f'"{each}"', "click", " 1 ", '"a, b; c\t""d""\nsecond line"') for each in decisions]
    text = table(header, *rows, separator=separator, end=end)
    Path("late.csv").write_bytes(b"\xef\xbb\xbf" + (text + end).encode())
    assert counts(run, "late.csv") == {"rows": 10, "recorded": 10}


def test_columns_that_are_no_metrics(run: Run, decisions: list[str]) -> None:
    """Metrics may be chosen among other columns, and the note names those that are ignored."""
    Path("late.csv").write_text(table(("decision_id", "country", "click"), (decisions[0], "NL", 1)))
    result = run("reward", "import", "late.csv", "--metric", "click")
    assert result.exit_code == 0
    assert result.stderr == "note: ignored columns: 'country'\n"
    assert re.search(r"^outcomes recorded +1$", result.stdout, re.MULTILINE)


def test_parquet(run: Run, decisions: list[str]) -> None:
    """Parquet is read, with numbers, truths and nulls of its own types."""
    columns = {
        "decision_id": [*decisions[:3], None],
        "click": [True, False, None, True],
        "paid": [1.0, None, 0.0, 1.0],
        "revision": [0, 1, None, 0],
    }
    parquet.write_table(pa.table(columns), "late.parquet")
    assert counts(run, "late.parquet") == {"rows": 4, "recorded": 4, "fallback_rows": 1}


def test_parquet_of_other_writers(run: Run, decisions: list[str]) -> None:
    """Text may be marked as bytes, and columns that are no metric may hold what Python has no value for."""
    columns = {
        "decision_id": pa.array([each.encode() for each in decisions[:2]]),
        "click": pa.array([1, 0]),
        "seen": pa.array([2**62, None], type=pa.timestamp("us")),
    }
    parquet.write_table(pa.table(columns), "late.parquet")
    assert counts(run, "late.parquet", "--metric", "click") == {"rows": 2, "recorded": 2}
    arguments = ("late.parquet", "--metric", "seen")
    found = counts(run, *arguments, exit_code=1)
    assert (found["rows"], found["empty_rows"], found["refused_rows"]) == (2, 1, 1)


def test_long_texts_of_other_columns(run: Run, decisions: list[str]) -> None:
    """A column that is no metric may hold long texts, such as answers of a model."""
    text = "x" * 500_000
    Path("late.csv").write_text(f"decision_id,click,answer\n{decisions[0]},1,{text}\n")
    assert counts(run, "late.csv", "--metric", "click") == {"rows": 1, "recorded": 1}


@pytest.mark.parametrize(
    ("path", "problem"), [(".", "is no file"), ("/dev/null", "is no file"), ("late.csv", "is FILE itself")]
)
def test_places_for_no_refused_rows(path: str, problem: str, run: Run, decisions: list[str]) -> None:
    """Nobody is advised to delete a folder, a device or the file that is imported."""
    Path("late.csv").write_text(f"decision_id,click\n{decisions[0]},1\n")
    result = run("reward", "import", "late.csv", "--refused", path)
    assert result.exit_code == 2
    assert result.stderr == f"error: {path}: {problem}: name another with --refused\n"


def test_refused_rows(run: Run, decisions: list[str]) -> None:
    """What is refused is written with its row and reason, never over an older file, and can be imported."""
    rows = [
        (decisions[0], "click", 1, "a"),
        (decisions[1], "click", "1,5", "b"),
        (decisions[2], "click", 2, "c"),
        (decisions[3], "clik", 1, "d"),
        ("forged", "click", 1, "e"),
        (decisions[4], "click", "nan", "f"),
        (decisions[5], "click", 1, "g", "beyond"),
        (decisions[6], "", 1, "h"),
    ]
    Path("late.csv").write_text(
        table(("decision_id", "metric", "value", "note"), *rows, separator=";"), encoding="latin-1"
    )
    result = run("reward", "import", "late.csv")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: 7 rows refused: correct late.refused.csv and import that\n")
    header, *written = [line.split(",") for line in Path("late.refused.csv").read_text().splitlines()]
    assert header == ["decision_id", "metric", "value", "note", "refused_row", "refused_reason"]
    assert [line[0] for line in written] == [*decisions[1:4], "forged", *decisions[4:7]]
    text = Path("late.refused.csv").read_text()
    for row, reason in [
        (3, "\"value is '1,5', which is not a number: write a decimal point\""),
        (4, "\"INVALID_INPUT: outcomes['click']: 2.0: it must be in [0, 1]\""),
        (6, "DECISION_ID_INVALID: "),
        (7, "\"value is 'nan', which is not a finite number\""),
        (8, "the row has 5 cells and the header 4,beyond"),
        (9, "the row names no metric"),
    ]:
        assert f",{row},{reason}" in text

    older = "with the rows that an earlier import refused"
    again = run("reward", "import", "late.csv")
    assert (again.exit_code, again.stderr) == (
        2,
        f"error: late.refused.csv: exists, {older}: import or delete it, or name another with --refused\n",
    )
    assert Path("late.refused.csv").read_text() == text
    assert counts(run, "late.refused.csv", exit_code=1)["refused_rows"] == 7
    corrected = text.replace('"1,5"', "1").replace(",2,c", ",1,c").replace(",clik,", ",click,")
    corrected = corrected.replace(",nan,", ",0,").replace(",beyond", "").replace("forged", "")
    corrected = corrected.replace(f"{decisions[6]},,", f"{decisions[6]},click,")
    Path("corrected.csv").write_text(corrected)
    assert counts(run, "corrected.csv") == {"rows": 7, "recorded": 6, "fallback_rows": 1}


def test_bytes_of_refused_rows(run: Run, decisions: list[str]) -> None:
    """A cell that is not UTF-8 is no obstacle, and comes out as it went in."""
    Path("late.csv").write_bytes(
        b"decision_id,metric,value,city\n%s,click,x,M\xfcnchen\n" % decisions[0].encode()
    )
    assert counts(run, "late.csv", exit_code=1)["refused_rows"] == 1
    assert b",M\xfcnchen," in Path("late.refused.csv").read_bytes()


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (
            "user,click",
            "there is no column decision_id: the columns are 'user', 'click'; wanted are decision_id",
        ),
        ("decision,metric,value", "the column decision of an export holds ids without their signature"),
        ("decision_id", "there is no metric: "),
        ("decision_id,value", "of metric and value only one is there, without --metric: "),
        ("decision_id,click,click", "the column 'click' is there twice: rename or remove one"),
        ("decision_id,Revision,revision,click", "the column 'revision' is there twice"),
        ("decision_id,,click", "a column has no name: name it or remove it, or choose others with --metric"),
        ("", "has no header in its first line"),
    ],
)
def test_wrong_headers(header: str, problem: str, run: Run) -> None:
    """A file with other columns is refused in one line that says what was found and what is wanted."""
    Path("late.csv").write_text(f"{header}\n1,2,3\n")
    result = run("reward", "import", "late.csv", "--server", NOBODY)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert problem in line
    assert "late.csv" in line


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x1f\x8b\x08\x00", "is compressed by gzip: unpack it first"),
        (b"PK\x03\x04", "is a spreadsheet or a ZIP file: save the sheet as CSV in UTF-8"),
        ("decision_id,click".encode("utf-16"), "is UTF-16: save it as CSV in UTF-8"),
        (b"PAR1 and no more", "is damaged: "),
    ],
)
def test_wrong_files(content: bytes, problem: str, run: Run) -> None:
    """A file of another format is named as what it is."""
    Path("late.csv").write_bytes(content)
    result = run("reward", "import", "late.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: late.csv: {problem}")


@pytest.mark.parametrize(("path", "problem"), [("gone.csv", "no such file"), (".", "is a folder or a pipe")])
def test_paths_that_are_none(path: str, problem: str, run: Run) -> None:
    """A file that is not there, and a folder, are named with the reason."""
    result = run("reward", "import", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}: {problem}")


def test_open_quote(run: Run, decisions: list[str]) -> None:
    """A quote that is not closed ends the import in one line with the row and how to go on."""
    Path("late.csv").write_text(f'decision_id,click\n{decisions[0]},1\n"{decisions[1]},1\n')
    result = run("reward", "import", "late.csv")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "error: late.csv: row 3 can't be read: unexpected end of data"


def test_nobody_answers(run: Run) -> None:
    """Without a server it gives up after `--wait`, and nothing is lost."""
    Path("late.csv").write_text("decision_id,click\nd,1\n")
    result = run("reward", "import", "late.csv", "--server", NOBODY, "--wait", "0")
    assert (result.exit_code, result.stderr.splitlines()) == (
        1,
        [
            "error: no server answers at 127.0.0.1:1: start one with `bandit-server serve`",
            "error: late.csv: no row was posted for sure; run the same command again",
        ],
    )
    assert not Path("late.refused.csv").exists()


def start_import(server: str, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start an import of `late.csv`, and return once it has begun."""
    process = subprocess.Popen(
        command("reward", "import", "late.csv", "--server", server, *arguments),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "note: ignored columns: 'note'\n"
    return process


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C ends it in lines that say how to go on."""
    (tmp_path / "late.csv").write_text("decision_id,metric,value,note\nd,click,1,x\n")
    process = start_import(NOBODY, tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("note: waiting: no server answers at 127.0.0.1:1")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in errors.splitlines() if not line.startswith("note: waiting: ")] == [
        "error: interrupted",
        "error: late.csv: no row was posted for sure; run the same command again",
    ]


@pytest.mark.parametrize("column", ["decision_id", "revision"])
def test_what_is_no_metric_is_none(column: str) -> None:
    """Ids are not taken for values: every row would be refused."""
    with pytest.raises(LayoutError, match="decision_id and revision are no metrics"):
        recognise(("decision_id", "revision", "click"), ("click", column))


@pytest.mark.slow
def test_server_that_dies_meanwhile(tmp_path: Path, start_server: StartServer) -> None:
    """A server that is killed and comes back is waited for, and every outcome counts once in the end."""
    server = start_server(port=free_port())
    wire = Wire(server.address)
    declared = experiment()
    wire.create(declared)
    wire.start(declared.name)
    decisions = decide(server.address, declared.name, 20_000)
    wire.close()
    rows = [(each, "click", number % 2, "") for number, each in enumerate(decisions)]
    (tmp_path / "late.csv").write_text(table(("decision_id", "metric", "value", "note"), *rows))
    process = start_import(server.address, tmp_path, "--wait", "120", "--json")
    eventually(lambda: query(server.database, "SELECT count(*) FROM rewards")[0][0] > 0)
    server.kill()
    server = start_server(port=server.port)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert [line for line in errors.splitlines() if not line.startswith("note: waiting: ")] == []
    found = json.loads(output)["outcomes"]
    assert found["recorded"] + found["duplicate"] == 20_000
    ((n_stored, n_clicks),) = query(server.database, "SELECT count(*), sum(quanta > 0) FROM rewards")
    assert (n_stored, n_clicks) == (20_000, 10_000)


def test_first_row(run: Run, decisions: list[str]) -> None:
    """`--from-row` goes on where an import broke off, and adds to the file of refused rows."""
    rows = [(each, 1 if number else "x") for number, each in enumerate(decisions)]
    Path("late.csv").write_text(table(("decision_id", "click"), *rows[:5], (decisions[5], '"')))
    result = run("reward", "import", "late.csv")
    assert result.exit_code == 1
    assert "no row was posted for sure" in result.stderr  # all in one call, which was not made yet
    Path("late.csv").write_text(table(("decision_id", "click"), *rows))
    assert counts(run, "late.csv", exit_code=1)["recorded"] == 9
    before = Path("late.refused.csv").read_text()
    assert counts(run, "late.csv", "--from-row", "11") == {"rows": 1, "duplicate": 1}
    assert counts(run, "late.csv", "--from-row", "2", exit_code=1)["refused_rows"] == 1
    assert Path("late.refused.csv").read_text() == before + before.splitlines(keepends=True)[1]


@pytest.mark.usefixtures("decisions")
def test_the_command_below_hides_no_reward(run: Run) -> None:
    """`reward` by hand is what it was, and its help names the import."""
    assert run("reward").stderr.endswith("Error: Missing argument 'DECISION_ID'.\n")
    usage = "Usage: bandit-server reward [OPTIONS] DECISION_ID METRIC=VALUE..."
    shown = run("reward", "--help").stdout
    assert shown.startswith(usage)
    assert "import  Post the outcomes in a CSV or Parquet file." in shown
    posted = run("reward", "--revision", "1", "forged", "click=1")
    assert (posted.exit_code, posted.stderr.startswith("error: decision_id: ")) == (1, True)


@given(
    cells=st.lists(
        st.one_of(st.none(), st.text(max_size=8), st.floats(), st.integers(), st.booleans(), st.dates()),
        max_size=6,
    ),
    is_long=st.booleans(),
)
def test_any_row_is_a_reward_or_refused(cells: list[object], is_long: bool) -> None:  # noqa: FBT001
    """Whatever a row holds, it is a reward of finite values and a valid revision, or refused."""
    names = ["decision_id", "metric", "value", "revision"] if is_long else ["decision_id", "click", "paid"]
    try:
        reward = recognise(names, []).reward(cells)
    except RowError:
        return
    assert isinstance(reward.decision, str)
    assert all(abs(value) < float("inf") for value in reward.outcomes.values())
    assert 0 <= reward.revision < 2**32


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_header_is_recognised_or_refused(names: list[str]) -> None:
    """Whatever the columns are called, they are a table of rewards or refused in one line."""
    with suppress(LayoutError):
        recognise([*names, "decision_id"], [])
