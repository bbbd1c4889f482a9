"""Plans of launches: the forecast as tables and as JSON, and what would not be seen in time."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bandit.inference.planning.launch import LaunchSetting, forecast_launch, hypotheses
from bandit.inference.planning.launch_forecast import Guardrail, LaunchForecast
from bandit.inference.planning.power import Plan
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.metric import Direction, Metric

Run = Callable[..., Result]
TRAFFIC = ("--decisions-per-day", "4000", "--base-rate", "0.05")
ERROR = ("--guardrail-rate", "error=0.02")
DECLARED = """
name = "ranker"
champion = "v1"
reward_metric = "click"
limits = { minimum_share = 0.05, champion_minimum_share = 0.2 }
arms = [{ id = "v1" }, { id = "v2" }]

[[metrics]]
name = "click"
kind = "binary"
window = "1h"
default_value = 0

[[metrics]]
name = "error"
kind = "binary"
direction = "minimize"
window = "1h"
default_value = 0
guardrail = true

[launch]
mode = "automatic"
cycle = "7d"

[[launch.stages]]
kind = "canary"
share = 0.05
minimum_decisions = 1_000

[[launch.stages]]
kind = "ramp"
shares = [0.1, 0.25]
minimum_duration = "2d"

[[launch.stages]]
kind = "bandit"

[launch.holdback]
share = 0.05
"""
METRIC = Metric(
    name="error",
    direction=Direction.MINIMIZE,
    window=timedelta(hours=1),
    default_value=0.0,
    is_guardrail=True,
)


def planned(run: Run, text: str = DECLARED, *arguments: str) -> Any:
    """Return the launch of the JSON plan of a file with this text."""
    Path("launch.toml").write_text(text)
    result = run("plan", "launch.toml", *TRAFFIC, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout, parse_constant=pytest.fail)["launch"]


def codes(launch: Any) -> set[str]:
    """Return the codes of its warnings."""
    return {each["code"] for each in launch["warnings"]}


def test_the_forecast_is_the_librarys_for_the_files_numbers(run: Run) -> None:
    """Stages, floors, window, guardrails and holdback of the file, at the traffic of the flags."""
    found = planned(run, DECLARED, *ERROR)
    setting = LaunchSetting(
        plan=LaunchPlan(
            stages=(
                Stage(kind=StageKind.CANARY, share=0.05, minimum_decisions=1_000),
                Stage(kind=StageKind.RAMP, shares=(0.1, 0.25), minimum_duration=timedelta(days=2)),
                Stage(kind=StageKind.BANDIT),
            ),
            holdback=Holdback(share=0.05),
        ),
        goal=Plan(
            base_mean=0.05,
            lift=0.1,
            decisions_per_day=4_000,
            champion_floor=0.2,
            challenger_floor=0.05,
            rest=0.75,
            n_compared=hypotheses(1),
        ),
        is_yes_no=True,
        window=timedelta(hours=1),
        outcomes_per_decision=0.05,
        guardrails=(Guardrail(metric=METRIC, base=0.02),),
        n_guardrails=1,
    )
    expected = forecast_launch(setting)
    assert isinstance(expected, LaunchForecast)
    assert expected.promotion is not None
    assert expected.holdback is not None
    assert found["promotion"]["probability"] == expected.promotion.probability
    assert found["promotion"]["earliest_day"] == pytest.approx(expected.promotion.earliest)
    assert [step["typical_days"] for step in found["steps"]] == pytest.approx([5.0, 2.0, 2.0, 14.0])
    [guardrail] = found["guardrails"]
    assert guardrail["metric"] == "error"
    assert [harm["median_day"] for harm in guardrail["harms"]] == pytest.approx(
        [harm.day for harm in expected.guardrails[0].harms]
    )
    assert found["holdback"]["loss_at_half"] == pytest.approx(expected.holdback.at_half)
    assert found["false_promotion"]["bound"] == 0.0125
    assert found["false_rollback"]["bound_of_any_number"] == 0.05


def test_the_tables_say_it_in_sentences_and_fit(run: Run) -> None:
    """Steps, promotion, both errors, the guardrail's harms and the holdback; in 100 columns."""
    Path("launch.toml").write_text(DECLARED)
    text = run("plan", "launch.toml", *TRAFFIC, *ERROR).stdout
    assert re.search(r"^canary at 5 % +at once +0 seconds +5 days +minimum_decisions", text, re.MULTILINE)
    assert re.search(r"^ramp at 25 % +7 days +2 days +2 days +minimum_duration", text, re.MULTILINE)
    flat = " ".join(text.split())
    assert "Launch of v2" in flat
    assert "At +10 % it is promoted after 23 days at the earliest, in the median after" in flat
    assert "Promoted although it is no better: with a probability of at most 1.2 %" in flat
    assert "Taken out although it does no harm: with a probability of at most 2.5 %" in flat
    assert "Guardrail error, the champion at 2 %" in flat
    assert "is a fuse: it sees a loss of" in flat
    assert "two whole weeks" not in flat
    assert all(len(line) <= 100 for line in text.splitlines())


def test_without_a_launch_nothing_is_added(run: Run) -> None:
    """Plans of other files have no launch, and take no rates of guardrails."""
    text = DECLARED.partition("[launch]")[0].replace(", champion_minimum_share = 0.2", "")
    Path("plain.toml").write_text(text)
    result = run("plan", "plain.toml", *TRAFFIC, "--json")
    assert "launch" not in json.loads(result.stdout)
    refused = run("plan", "plain.toml", *TRAFFIC, *ERROR)
    assert (refused.exit_code, refused.stderr) == (2, "error: --guardrail-rate needs a file with a launch\n")
    refused = run("plan", *TRAFFIC, *ERROR)
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: --guardrail-rate needs FILE, which declares the guardrails\n",
    )


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        ("errors=0.02", "names 'errors', which is no guardrail; guardrails: error; did you mean error?"),
        ("click=0.02", "names 'click', which is no guardrail; guardrails: error"),
        ("error=0", "the rate of error must be in (0, 1), got 0"),
        ("error=nan", "the rate of error must be in (0, 1), got nan"),
        ("error", "must be NAME=RATE, such as error=0.02"),
        ("=0.1", "must be NAME=RATE, such as error=0.02"),
    ],
)
def test_a_rate_that_makes_no_sense_is_refused_in_one_line(run: Run, rate: str, words: str) -> None:
    """The exit code is 2, and the line names the flag and what is known."""
    Path("launch.toml").write_text(DECLARED)
    result = run("plan", "launch.toml", *TRAFFIC, "--guardrail-rate", rate)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "--guardrail-rate" in result.stderr


def test_a_plan_that_can_be_met_at_no_traffic_is_refused_with_the_numbers(run: Run) -> None:
    """A stage that is over before it can be, and shares without room: file, key and rule."""
    over = DECLARED.replace('kind = "bandit"', 'kind = "bandit"\nmaximum_duration = "10d"')
    full = DECLARED.replace("[0.1, 0.25]", "[0.1, 0.9]")
    for text, words in (
        (over, "launch.stages[2].maximum_duration: 10 days, 0:00:00 is over before the stage can be"),
        (full, "its largest share, 0.9 and the champion's reserve, 0.2, sum to 1.1"),
    ):
        Path("launch.toml").write_text(text)
        result = run("plan", "launch.toml", *TRAFFIC)
        assert result.exit_code == 2
        assert words in result.stderr


def test_an_improbable_promotion_is_warned_of_with_what_would_help(run: Run) -> None:
    """A lift of 5 % is not seen in time: floors, a longer stage, shadow and offline evaluation."""
    launch = planned(run, DECLARED, "--lift", "0.05")
    [warning] = [each for each in launch["warnings"] if each["code"] == "unlikely_promotion"]
    for words in (
        "with a lift of +5 % is promoted with a probability of only",
        "maximum_duration of",
        "shadow",
        "offline",
    ):
        assert words in warning["text"]
    busy = ("--decisions-per-day", "40000")
    assert "unlikely_promotion" not in codes(planned(run, DECLARED, "--lift", "0.1", *busy))


def test_floors_that_would_help_are_named(run: Run) -> None:
    """With floors of 1 % and 1 % a lift is not seen in eight weeks; with 20 % and 5 % it is."""
    text = DECLARED.replace("minimum_share = 0.05, champion_minimum_share = 0.2", "minimum_share = 0.01")
    launch = planned(run, text, "--decisions-per-day", "8000")
    [warning] = [each for each in launch["warnings"] if each["code"] == "unlikely_promotion"]
    assert "champion_minimum_share = 0.2 and minimum_share = 0.05" in warning["text"]


def test_a_step_that_is_inconclusive_before_it_is_met_is_warned_of(run: Run) -> None:
    """With the share, the duration and the number that would do."""
    text = DECLARED.replace("= 1_000", '= 1_000\nmaximum_duration = "2d"')
    launch = planned(run, text)
    [warning] = [each for each in launch["warnings"] if each["code"] == "step_too_short"]
    assert "canary at 5 % takes 5 days for its minimum_decisions" in warning["text"]
    assert "Raise its share to 12 %" in warning["text"]


def test_a_step_that_takes_forever_is_warned_of(run: Run) -> None:
    """At ten decisions a day a canary of 5 % takes years; it is planned as quickly as any other."""
    launch = planned(run, DECLARED, "--decisions-per-day", "10")
    [warning] = [each for each in launch["warnings"] if each["code"] == "slow_step"]
    assert warning["text"].startswith("canary at 5 % takes 5.5 years for its minimum_decisions: lower it")


def test_a_guardrail_that_sees_twice_the_harm_too_late_is_warned_of(run: Run) -> None:
    """Rare errors are found in the bandit stage at best; very rare ones not at all."""
    assert "slow_guardrail" in codes(planned(run, DECLARED, "--guardrail-rate", "error=0.0015"))
    assert "blind_guardrail" in codes(planned(run, DECLARED, "--guardrail-rate", "error=0.0001"))
    assert not {"slow_guardrail", "blind_guardrail"} & codes(planned(run, DECLARED, *ERROR))


def test_other_warnings_have_their_causes(run: Run) -> None:
    """No window, a lift for the worse, no room for three, a holdback that sees little, a late promotion."""
    window = 'kind = "binary"\nwindow = "1h"\ndefault_value = 0\n\n[[metrics]]\nname = "error"'
    assert window in DECLARED
    unseen = DECLARED.replace(window, window.replace('window = "1h"\ndefault_value = 0\n', ""))
    assert "no_window" in codes(planned(run, unseen))
    assert "worse" in codes(planned(run, DECLARED, "--lift", "-0.1"))
    three = DECLARED.replace('{ id = "v2" }', '{ id = "v2" }, { id = "v3" }, { id = "v4" }, { id = "v5" }')
    launch = planned(run, three)
    assert {"no_room"} <= codes(launch)
    assert launch["challengers"] == ["v2", "v3", "v4", "v5"]
    assert "blind_holdback" in codes(planned(run, DECLARED, "--decisions-per-day", "400"))
    late = DECLARED.replace('window = "1h"', 'window = "4d"', 1)
    late = late.replace('kind = "bandit"', 'kind = "bandit"\nmaximum_duration = "15d"')
    assert "promotion_too_late" in codes(planned(run, late))


def test_more_challengers_than_fit_into_the_bandit_wait_for_one_another(run: Run) -> None:
    """Beside a reserve of 20 %, floors of 30 % leave room for two; an arm that is taken out needs none."""
    text = DECLARED.replace("minimum_share = 0.05,", "minimum_share = 0.3,", 1)
    arms = "".join(f', {{ id = "v{number}" }}' for number in range(3, 6))
    text = text.replace(', { id = "v2" }', f', {{ id = "v2" }}{arms}, {{ id = "v9", taken_out = true }}')
    launch = planned(run, text)
    assert launch["challengers"] == ["v2", "v3", "v4", "v5"]
    assert launch["steps"][-1]["beside"] == 1
    assert any("bandit: only 2 challengers fit" in each["text"] for each in launch["warnings"])


def test_a_metric_that_is_not_yes_no_is_planned_with_its_variance(run: Run) -> None:
    """Amounts as goal of a launch: every decision posts one."""
    text = DECLARED.replace('kind = "binary"', 'kind = "real"\nmaximum = 10', 1)
    text = text.replace("= 1_000", "= 1_000\nminimum_outcomes = 2_000")
    arguments = ("--base-rate", "5", "--variance", "4", "--decisions-per-day", "40000")
    launch = planned(run, text, *arguments)
    assert launch["steps"][0]["typical_days"] == pytest.approx(1.0)
    assert launch["promotion"]["probability"] > 0.9


def test_what_is_left_out_is_noted(run: Run) -> None:
    """A guardrail without a rate or that is not yes/no, people who take steps, and approvals."""
    text = DECLARED.replace('mode = "automatic"', 'mode = "recommend"')
    text = text.replace('kind = "bandit"', 'kind = "bandit"\napproval = true')
    text = text.replace(
        "[launch]\n",
        '[[metrics]]\nname = "latency"\nkind = "real"\ndirection = "minimize"\nmaximum = 9\n'
        'guardrail = true\nwindow = "1h"\n\n[launch]\n',
        1,
    )
    launch = planned(run, text)
    assert [note["code"] for note in launch["notes"]] == [
        *["guardrail_left_out"] * 2,
        "people_take_steps",
        "approvals",
    ]
    refused = run("plan", "launch.toml", *TRAFFIC, "--guardrail-rate", "latency=0.1")
    assert "latency is not yes/no, so it has no rate" in refused.stderr
