"""The command line of the regret suite: its options, its output, and its errors for bad input."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from benchmarks.regret.command import main
from benchmarks.regret.players.peers import PEERS
from benchmarks.regret.problems.named_problems import NAMED

SMALL = "--means 0.2,0.5 --horizon 40 --runs 20 --jobs 1"


def invoke(arguments: str) -> Result:
    """Return the result of the command."""
    return CliRunner().invoke(main, arguments.split())


def figures(arguments: str, folder: Path) -> list[dict[str, Any]]:
    """Return the JSON of a run that must succeed."""
    file = folder / "figures.json"
    done = invoke(f"{arguments} --json {file}")
    assert done.exit_code == 0, done.output
    document: list[dict[str, Any]] = json.loads(file.read_text())
    return document


def test_json_has_an_object_for_each_policy(tmp_path: Path) -> None:
    """Mean, standard error and runs stand next to the policy as it was written, with what repeats them."""
    policies = "thompson,epsilon-greedy:0.2,uniform,split:90/10,thompson:floor=0.1:half-life=30"
    found = figures(f"{SMALL} --policies {policies} --seed 3 --champion 1", tmp_path)
    assert [each["policy"] for each in found] == policies.split(",")
    for each in found:
        assert each["runs"] == 20
        assert 0 <= each["mean"] <= 40 * 0.3
        assert 0 < each["standard_error"] < 3
        assert 0 <= each["share_of_best"] <= 1
        assert (each["horizon"], each["seed"], each["champion"], each["means"]) == (40, 3, 1, [0.2, 0.5])
        assert each["lai_robbins"] == pytest.approx(0.3 / 0.19274, rel=1e-3)
    assert found[3]["anchor"]["regret"] == pytest.approx(40 * 0.1 * 0.3)
    assert figures(f"{SMALL} --policies {policies} --seed 3 --champion 1", tmp_path) == found


@pytest.mark.parametrize(
    "options",
    [
        "--reward gaussian --sd 2 --means -1,1",
        "--reward poisson --means 1,3",
        "--drift 0.1",
        "--switch-at 20",
        "--switch-at 20 --switch-means 0.9,0.1",
        "--weekend-means 0.5,0.2 --rounds-per-day 2",
        "--weekly-swing 0.5 --rounds-per-day 2",
        "--half-life 10",
        "--floor 0.1 --champion-floor 0.3",
        "--refresh-every 7 --delay 5",
    ],
)
def test_each_option_changes_what_is_played(options: str, tmp_path: Path) -> None:
    """Each option changes the figures; one that is read and then ignored would not."""
    policies = "--policies thompson,epsilon-greedy:0.3:decay=20"
    plain = figures(f"{SMALL} {policies}", tmp_path)
    changed = figures(f"{SMALL} {policies} {options}", tmp_path)
    for before, after in zip(plain, changed, strict=True):
        assert before["mean"] != after["mean"]
        assert after["standard_error"] > 0


def test_means_can_be_drawn_for_each_run(tmp_path: Path) -> None:
    """Turnover works as well; it has no constant of Lai & Robbins."""
    (one,) = figures(
        "--means-beta 4,4 --arms 5 --turnover 0.1 --horizon 30 --runs 5 --policies thompson", tmp_path
    )
    assert one["lai_robbins"] is None
    assert one["means"] is None
    assert one["mean"] > 0


def test_a_single_run_has_no_standard_error(tmp_path: Path) -> None:
    """A missing standard error is null in JSON, and left out of the table; so is an infinite constant."""
    found = figures("--means 0,0.5 --horizon 1 --runs 1", tmp_path)
    assert {each["standard_error"] for each in found} == {None}
    assert "nan" not in invoke("--means 0,0.5 --horizon 1 --runs 1").output.lower()


def test_curves_come_with_their_bands(tmp_path: Path) -> None:
    """Rounds, means and 95 % bands are of one length and end at the regret stated."""
    (one,) = figures(f"{SMALL} --policies thompson --curve", tmp_path)
    curve = one["curve"]
    assert {len(values) for values in curve.values()} == {len(curve["round"])}
    assert curve["round"][-1] == 40
    assert curve["mean"][-1] == one["mean"]
    half = 1.96 * one["standard_error"]
    assert (curve["lower"][-1], curve["upper"][-1]) == pytest.approx((one["mean"] - half, one["mean"] + half))


def test_plots_are_files_and_one_page_that_carries_them(tmp_path: Path) -> None:
    """There is a PNG for each problem, and a page that shows them from data within it, without requests."""
    done = invoke(f"{SMALL} --policies thompson,split:<b>90/10 --plots {tmp_path}".replace("<b>", ""))
    assert done.exit_code == 0, done.output
    page = (tmp_path / "regret.html").read_text()
    assert (tmp_path / "problem.png").read_bytes().startswith(b"\x89PNG")
    assert "src='data:image/png;base64,iVBOR" in page
    assert "http" not in page
    assert "<td>split:90/10</td>" in page


def test_plots_without_matplotlib_are_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = invoke(f"--plots {tmp_path}")
    assert done.exit_code == 2
    assert done.output == (
        "Error: Plots need matplotlib, which is not installed: pip install 'bandit-allocator[benchmarks]'.\n"
    )


def test_named_problems_are_listed_and_played(tmp_path: Path) -> None:
    """Each named problem has a line, and one can be played by its name, with its anchor."""
    listed = invoke("--list").output
    assert [name for name in NAMED if name not in listed] == []
    (identical, all_exploring) = (
        figures(f"--problem {name} --quick --jobs 1 --runs 30", tmp_path)
        for name in ("identical", "all-exploring")
    )
    assert [each["mean"] for each in identical] == [0.0, 0.0, 0.0]
    assert {each["runs"] for each in identical} == {30}
    assert {each["problem"] for each in all_exploring} == {"all-exploring"}
    assert all(abs(each["anchor"]["standard_errors_off"]) < 5.1 for each in all_exploring)


def test_the_cases_that_a_bandit_does_not_win_are_played_by_default() -> None:
    """The cases are a horizon too short, a split whose champion is best, a week's rhythm, and delay."""
    by_default = {name for name, named in NAMED.items() if named.is_default}
    assert {"short", "champion-best", "weekend", "delayed", "russo-van-roy", "identical"} <= by_default
    assert "chapelle-li-1" not in by_default


def test_other_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This library's policies still play; if no policy is left, that is an error."""
    monkeypatch.setattr("benchmarks.regret.matches.missing_package", lambda _: "river")
    file = tmp_path / "figures.json"
    done = invoke(f"{SMALL} --policies thompson,river-thompson --json {file}")
    assert "left out river, which is not installed: pip install river" in done.output
    assert [each["policy"] for each in json.loads(file.read_text())] == ["thompson"]
    alone = invoke(f"{SMALL} --policies river-thompson")
    assert (alone.exit_code, alone.output) == (2, "Error: --policies needs river: pip install river\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--means 0.2", "--means must give 2 to 1,000 arms, got 1"),
        ("--means 0.2,1.2", "--means must lie in [0, 1] with --reward bernoulli, got 1.2"),
        ("--means 0.2,nan", "--means must be finite, got nan"),
        (
            "--means 0.2;0.3",
            "'--means': must be numbers separated by commas, such as 0.2,0.25, got '0.2;0.3'",
        ),
        ("--means -1,2 --reward poisson", "--means must lie in [0, 10000] with --reward poisson, got -1"),
        ("--means .2,.3 --horizon 0", "--horizon must be from 1 to 1,000,000,000, got 0"),
        ("--means .2,.3 --runs 0", "'--runs': 0 is not in the range 1<=x<=1000000."),
        ("--means .2,.3 --delay -1", "--delay must be from 0 to 1,000,000,000, got -1"),
        ("--means .2,.3 --refresh-every 0", "--refresh-every must be from 1 to"),
        ("--means .2,.3 --champion 2", "--champion must be from 0 to 1, got 2"),
        ("--means .2,.3 --sd 0 --reward gaussian", "--sd must be positive and finite, got 0"),
        ("--means .2,.3 --drift -1", "--drift must be finite and not negative, got -1"),
        ("--means .2,.3 --switch-at 10000", "--switch-at must be from 1 to 9,999, got 10,000"),
        ("--means .2,.3 --switch-means .3,.2", "--switch-means needs --switch-at ROUND"),
        ("--means .2,.3 --weekend-means .3", "--weekend-means must list as many means as --means (2), got 1"),
        ("--means .2,.9 --weekly-swing .2", "--weekly-swing takes a mean of 0.9 above 1, got 0.2"),
        ("--means .2,.3 --turnover .1", "--turnover needs --means-beta"),
        ("--means .2,.3 --means-beta 1,1", "--means-beta can't be combined with --means"),
        ("--means-beta 1,1,1 --arms 2", "--means-beta must be two positive numbers"),
        ("--means-beta 1,1", "--arms must give 2 to 1,000 arms, got 0"),
        ("--means .2,.3 --arms 2", "--arms needs --means-beta"),
        ("--means .2,.3 --half-life 0", "--half-life must be positive and finite, got 0"),
        ("--means .2,.3 --floor .6", "--floor is too high in 'thompson': minimum shares sum to 1.2"),
        ("--means .2,.3 --champion-floor 2", "--floor is invalid in 'thompson'"),
        ("--means .2,.3 --policies nix", "--policies 'nix' is not a policy; use thompson,"),
        ("--means .2,.3 --policies thompson,", "--policies '' is not a policy"),
        (
            "--means .2,.3 --policies thompson:2",
            "--policies 'thompson:2' has the value '2', but thompson takes",
        ),
        (
            "--means .2,.3 --policies uniform:1:2",
            "--policies 'uniform:1:2' must have at most one value, got 2",
        ),
        ("--means .2,.3 --policies uniform:decay=2", "'uniform:decay=2' has the option decay, which only"),
        ("--means .2,.3 --policies thompson:f=1", "--policies 'thompson:f=1' has an unknown option 'f'; use"),
        (
            "--means .2,.3 --policies thompson:floor=x",
            "'thompson:floor=x' must have a number in place of 'x'",
        ),
        ("--means .2,.3 --policies thompson:half-life=0", "must have a positive half-life, got 0"),
        (
            "--means .2,.3 --policies epsilon-greedy:2",
            "--policies 'epsilon-greedy:2' is out of range: epsilon",
        ),
        (
            "--means .2,.3 --policies split:90/5/5",
            "--policies 'split:90/5/5' must have one weight for each of",
        ),
        ("--means .2,.3 --policies split:0/0", "--policies 'split:0/0' must have weights that are not"),
        ("--means .2,.3 --policies uniform,uniform", "--policies must name each policy only once"),
        ("--means .2,.3 --policies river-thompson:1", "--policies 'river-thompson:1' must have no value but"),
        (
            "--means 2,3 --reward poisson --policies river-thompson",
            "plays problems with --reward bernoulli and",
        ),
        ("--means .2,.3 --horizon 99999999 --delay 50000000", "--delay and --refresh-every keep 50,000,001"),
        ("--means .2,.3 --curve", "--curve writes to the JSON file: add --json FILE"),
        ("--means .2,.3 --json /no/such/folder/x", "--json must name a file in a folder that exists"),
        ("--means .2,.3 --quick", "--quick is for named problems: leave it out, or leave out --means"),
        ("--means .2,.3 --problem short", "--problem is for named problems: leave it out, or leave out"),
        ("--horizon 5", "--horizon needs --means or --means-beta"),
        ("--problem nix", "'--problem': 'nix' is not one of"),
        ("--through-server", "--through-server needs --means or --means-beta"),
        (
            "--means .2,.3 --through-server --half-life 5",
            "--half-life is in rounds, and a server's is in time",
        ),
        (
            "--means .2,.3 --through-server --runs 1",
            "--runs must be from 2 to 1,000 with --through-server, got 1",
        ),
        ("--means .2,.3 --through-server --peers", "--through-server can't serve another library's policies"),
        ("--nix", "No such option"),
    ],
)
def test_bad_input_gets_a_line_with_the_option_and_its_rule(arguments: str, says: str) -> None:
    """Bad input gets one line on standard error and exit code 2, and no work is done."""
    done = invoke(arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1


def test_every_peer_can_be_named() -> None:
    """The help names every peer as it is accepted."""
    shown = " ".join(invoke("--help").output.split())
    assert set(PEERS) == {
        f"{library}-{policy}"
        for library in ("mabwiser", "river")
        for policy in ("thompson", "epsilon-greedy")
    }
    assert "mabwiser-thompson, mabwiser-epsilon-greedy:0.1, river-thompson" in shown
