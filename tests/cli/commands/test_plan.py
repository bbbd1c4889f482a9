"""Plans before the start, from a file or flags, for the declared floors and for others."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from bandit.inference.planning.power import Forecast, Plan, forecast

Run = Callable[..., Result]
RANKER = (Path(__file__).parents[1] / "ranker.toml").read_text()
TRAFFIC = ("--decisions-per-day", "4000", "--base-rate", "0.05")


@pytest.fixture
def file() -> str:
    """Return the file of an experiment with floors of 20 % and 5 %."""
    Path("ranker.toml").write_text(RANKER)
    return "ranker.toml"


def plans(run: Run, *arguments: str) -> dict[str, dict[str, float]]:
    """Return the name of each set of floors to its plan."""
    result = run("plan", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return {each["floors"]: each for each in json.loads(result.stdout, parse_constant=pytest.fail)["plans"]}


def test_the_declared_floors_are_planned_for(run: Run, file: str) -> None:
    """The numbers are the library's, and the better of the two arms has most of the decisions."""
    declared = plans(run, file, *TRAFFIC)["declared"]
    plan = Plan(
        base_mean=0.05,
        lift=0.1,
        decisions_per_day=4_000,
        champion_floor=0.2,
        challenger_floor=0.05,
        rest=0.75,
    )
    found = forecast(plan, is_yes_no=True)
    assert isinstance(found, Forecast)
    assert declared["days_at_half"] == pytest.approx(found.days_at_half)
    assert declared["days_at_most"] == pytest.approx(found.days_at_most)
    assert declared.get("minimum_share") is None
    assert 0.2 < declared["champion_share"] < 0.5 < declared["challenger_share"] < 0.8


def test_smaller_floors_take_longer(run: Run) -> None:
    """Smaller floors take longer; an even split is not much faster than 20 % and 5 %."""
    found = plans(run, *TRAFFIC)
    days = [found[name]["days_at_most"] for name in ("even split", "20/5", "5/5", "1/1")]
    assert days == sorted(days)
    assert days[1] < 2 * days[0]
    assert days[3] > 10 * days[0]


def test_flags_describe_an_experiment_without_a_file(run: Run) -> None:
    """Floors that are not given are even parts; sets of floors that don't fit are left out."""
    found = plans(run, "--arms", "5", "--champion-share", "0.2", "--challenger-share", "0.05", *TRAFFIC)
    assert found["declared"] == {**found["20/5"], "floors": "declared"}
    assert plans(run, "--arms", "4", *TRAFFIC)["declared"]["champion_share"] == pytest.approx(0.25)
    assert set(plans(run, "--arms", "50", *TRAFFIC)) == {"declared", "1/1", "even split"}


def test_a_table_fits_and_names_lift_and_traffic(run: Run, file: str) -> None:
    """The table fits in 100 columns, names the lift and the traffic, and has times in units that fit."""
    text = run("plan", file, *TRAFFIC).stdout
    assert "click: a lift of +10 % with 1 challenger at 4,000 decisions a day" in text
    assert re.search(r"^declared .* 32 days +53 days$", text, re.MULTILINE)
    assert re.search(r"^1/1 .* 33 weeks +81 weeks$", text, re.MULTILINE)
    assert all(len(line) <= 100 for line in text.splitlines())
    busy = run("plan", file, "--decisions-per-day", "4e6", "--base-rate", "0.05").stdout
    assert re.search(r"^declared .* 45 minutes +77 minutes$", busy, re.MULTILINE)


def test_years_are_given_and_never_is_only_what_has_no_end(run: Run, file: str) -> None:
    """A lift that takes decades has its number of years; one below the test's smallest bet has none."""
    text = run("plan", file, *TRAFFIC, "--lift", "0.004").stdout
    assert re.search(r"^declared .* [0-9,]+ years +[0-9,]+ years$", text, re.MULTILINE)
    assert "never" not in text
    assert re.search(
        r"^declared .* never +never$", run("plan", file, *TRAFFIC, "--lift", "0.001").stdout, re.MULTILINE
    )


def test_floors_that_make_evidence_impossible_are_named_with_the_remedy(run: Run) -> None:
    """Without floors the table is followed by the minimum share that helps; with floors it is not."""
    traffic = ("--decisions-per-day", "200", "--base-rate", "0.1", "--lift", "0.2")
    none = ("--champion-share", "0", "--challenger-share", "0")
    assert plans(run, *traffic, *none)["declared"]["minimum_share"] == 0.01
    text = " ".join(run("plan", *traffic, *none).stdout.split())
    assert "declare a minimum share of 1 % for every arm" in text
    assert "At the declared floors: 19 years at even odds. That is because the losing arm" in text
    assert "declare a minimum share" not in run("plan", *traffic).stdout


def test_units_are_planned_where_evidence_counts_units(run: Run) -> None:
    """A file that counts units is planned in units."""
    Path("units.toml").write_text(
        RANKER.replace('reward_metric = "click"', 'reward_metric = "click"\nanalysis_unit = "unit"')
    )
    assert "at 4,000 units a day" in run("plan", "units.toml", *TRAFFIC).stdout


def test_a_metric_that_is_not_yes_no_needs_a_variance(run: Run, file: str) -> None:
    """Other metrics need --variance, and the plan then scales with their range."""
    text = RANKER.replace('reward_metric = "click"', 'reward_metric = "latency-ms"')
    text = text.replace("guardrail = true", "default_value = 0")
    Path("real.toml").write_text(text)
    arguments = ("real.toml", "--decisions-per-day", "4000", "--base-rate", "200", "--lift", "-0.1")
    result = run("plan", *arguments)
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --variance is required, because latency-ms is not yes/no\n",
    )
    assert plans(run, *arguments, "--variance", "10000")["declared"]["days_at_half"] > 0
    assert run("plan", file, *TRAFFIC).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--decisions-per-day", "nan", "--base-rate", "0.1"), "--decisions-per-day must be positive"),
        (("--decisions-per-day", "-1", "--base-rate", "0.1"), "--decisions-per-day must be positive"),
        (("--decisions-per-day", "100", "--base-rate", "0"), "--base-rate is 0, and so is every lift"),
        (
            ("--decisions-per-day", "100", "--base-rate", "2"),
            "--base-rate must lie within the metric's range, 0 to 1, got 2",
        ),
        (("--decisions-per-day", "100", "--base-rate", "nan"), "--base-rate must lie within"),
        (("--decisions-per-day", "100", "--base-rate", "0.1", "--lift", "0"), "--lift must not be 0"),
        (
            ("--decisions-per-day", "100", "--base-rate", "0.8", "--lift", "0.5"),
            "--lift takes the mean to 1.2, outside the metric's range, 0 to 1: ask for a smaller one",
        ),
        ((*TRAFFIC, "--arms", "3", "--challenger-share", "0.5"), "the champion gets no share"),
        ((*TRAFFIC, "--variance", "9"), "--variance must be in (0, 0.25]"),
        ((*TRAFFIC, "--champion-share", "0.9", "--challenger-share", "0.2"), "add up to more than 1"),
        (("missing.toml", *TRAFFIC), "missing.toml: no such file or directory"),
        (("ranker.toml", "--arms", "3", *TRAFFIC), "can't be given with FILE"),
    ],
)
@pytest.mark.usefixtures("file")
def test_an_impossible_plan_is_refused_in_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """The exit code is 2, and one line has the reason."""
    result = run("plan", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broken_file_is_named_with_its_key(run: Run) -> None:
    """The error names file and key, as for `experiment apply`."""
    Path("broken.toml").write_text(RANKER.replace('champion = "v1"', 'champion = "v9"'))
    result = run("plan", "broken.toml", *TRAFFIC)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: broken.toml: champion: ")
