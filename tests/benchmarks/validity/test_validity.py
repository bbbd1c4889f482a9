"""The validity benchmark: its cells fill their tables, and its command prints and writes them."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.harness.parallel import run_all
from benchmarks.validity.cells import all_cells
from benchmarks.validity.command import main
from benchmarks.validity.groups import GROUPS, row_of
from benchmarks.validity.measures.results import of_spread
from benchmarks.validity.pieces import pieces_of
from benchmarks.validity.studies.requirements import Setting, measure_first_days
from benchmarks.validity.worlds.histories import Shaping
from benchmarks.validity.worlds.layouts import burst, growing


def test_under_a_static_split_the_spread_is_that_of_plain_means() -> None:
    """Exactly; and the width at a rate of a tenth is that which is required, for a few runs."""
    shaping = Shaping(floors=(0.5, 0.5), fixed=(0.5, 0.5))
    for layout in (growing(1_000), burst(1_000)):
        setting = Setting(shaping=shaping, layout=layout)
        sample = measure_first_days(setting, np.random.default_rng(1), 10)
        assert of_spread(sample["spread"]).value == pytest.approx(1.0, abs=1e-9)
        assert sample["width"].mean() <= 1.9
        assert sample["missed"].sum() <= 4


def test_every_cell_fills_its_tables() -> None:
    """Each column has a figure in each of its rows, except where arms cross or an assumption is broken."""
    for cell in all_cells():
        row = row_of(cell, cell.play(np.random.default_rng(1), 2))
        for group in (group for group in GROUPS if cell.group in group.cells):
            missing = {column.key for column in group.columns} - row.figures.keys()
            broken = {"stands", "alarm"} if cell.group == "broken" else set()
            broken |= {"cleared", "cleared_day"} if cell.name.startswith("no margin") else set()
            assert missing <= {"holds_lift", "withheld", "unwithheld", "missed_ratio"} | broken
            assert row.figures


def test_titles_of_cells_are_unique() -> None:
    """A title names a cell, and seeds it."""
    titles = [cell.title for cell in all_cells()]
    assert len(set(titles)) == len(titles)


def test_results_depend_on_the_seed_and_not_on_the_number_of_processes() -> None:
    """One process and two find the same figures; another seed finds others."""
    cells = [cell for cell in all_cells() if cell.group == "rollback"]

    def played(seed: int, jobs: int) -> dict[tuple[str, int], list[float]]:
        pieces = pieces_of(cells, 60, seed)
        measured = run_all([piece.play for piece in pieces], jobs, lambda _n_pieces: None)
        return {
            (piece.cell, piece.number): sample["decisions"].tolist()
            for piece, (sample, _) in zip(pieces, measured, strict=True)
        }

    assert played(1, 1) == played(1, 2)
    assert played(1, 1) != played(2, 1)


def test_the_command_prints_tables_and_writes_json(tmp_path: Path) -> None:
    """The output has figures with standard errors, their cost, and the command and seed that repeat them."""
    file = tmp_path / "figures.json"
    arguments = ["--runs", "4", "--cells", "equal: 2 arms, 50/50*", "--seed", "7", "--jobs", "1"]
    result = CliRunner().invoke(main, [*arguments, "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2 arms, 50/50, drift" in result.output
    assert "±" in result.output
    content = json.loads(file.read_text())
    assert (content["seed"], content["runs"], len(content["rows"])) == (7, 4, 4)
    assert content["rows"][0]["figures"]["better"].keys() == {"value", "standard_error"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cells", "nothing*"], "--list shows them"),
        (["--runs", "1"], "--runs"),
        (["--json", "/no/such/folder/x.json"], "a folder that exists"),
    ],
)
def test_an_invalid_option_is_refused_before_any_work(arguments: list[str], complaint: str) -> None:
    """An invalid option is refused at once, with what would be valid."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert complaint in result.output


def test_cells_can_be_listed() -> None:
    """Every cell is named, and none is simulated."""
    result = CliRunner().invoke(main, ["--list"])
    assert result.output.splitlines() == [cell.title for cell in all_cells()]
