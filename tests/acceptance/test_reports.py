"""Reports of a real server on real traffic: their numbers are the library's, and their text is readable."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, timedelta

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration

from bandit.inference.data.floors import smallest_floors
from bandit.inference.sequential.comparison import Comparison
from bandit.inference.sequential.means import MeanEstimate
from bandit.inference.sequential.off_policy import Gain, SplitValue
from bandit.inference.sequential.results import Interval
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.assessment import Assessment, assess
from bandit.inference.verdict.claims import Claim
from bandit.v1 import bandit_pb2, evidence_pb2, experiment_pb2
from server.cli.main import cli
from server.services.experiments.epochs import state_of
from server.store.opening import open_reader
from tests.support.process import ServerProcess, eventually, serving
from tests.support.reports import require_sane
from tests.support.wire import Wire, experiment, metric

LAG = 0.2
RATES = {"a": 0.05, "b": 0.40, "c": 0.05}
ERRORS = {"a": 0.02, "b": 0.02, "c": 0.30}
SPLIT = {"a": 50.0, "b": 50.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server whose epochs close soon."""
    flags = ("--lag-seconds", str(LAG), "--poll-seconds", "0.1", "--epoch-interval-seconds", "0.05")
    with serving(tmp_path_factory.mktemp("reports") / "bandit.db", *flags) as process:
        yield process


@pytest.fixture(scope="module")
def wire(server: ServerProcess) -> Iterator[Wire]:
    """Open a channel to it."""
    with closing(Wire(server.address)) as channel:
        yield channel


def declared(**changes: object) -> experiment_pb2.Experiment:
    """Return an experiment of three arms with clicks, errors as a guardrail, and spend, within a second."""
    second = Duration(seconds=1)
    return experiment(
        arms=[experiment_pb2.Arm(id=arm) for arm in RATES],
        metrics=[
            metric("click", window=second, default_value=0.0),
            metric(
                "error",
                window=second,
                default_value=0.0,
                guardrail=True,
                direction=experiment_pb2.DIRECTION_MINIMIZE,
            ),
            metric("spend", kind=experiment_pb2.METRIC_KIND_REAL, maximum=10, window=second),
        ],
        limits=experiment_pb2.Limits(minimum_share=0.1, minimum_shares={"a": 0.25}),
        **changes,
    )


def serve(wire: Wire, name: str, units: list[str], rng: random.Random) -> None:
    """Make a decision for each unit, and post its outcomes."""
    requests = [bandit_pb2.ChooseRequest(experiment=name, unit=unit) for unit in units]
    rewards = []
    for result in wire.batch_choose(*requests):
        arm, outcomes = result.choice.arm, {}
        if rng.random() < RATES[arm]:
            outcomes["click"] = 1.0
        if rng.random() < ERRORS[arm]:
            outcomes["error"] = 1.0
        if rng.random() < 0.5:
            outcomes["spend"] = rng.uniform(0, 4)
        decision_id = result.choice.decision_id
        if outcomes:
            rewards.append(bandit_pb2.RewardRequest(decision_id=decision_id, outcomes=outcomes))
    assert all(result.HasField("reward") for result in wire.batch_reward(*rewards))


def run(wire: Wire, unit_of: Callable[[int], str], **changes: object) -> str:
    """Run an experiment of 2,000 decisions, at least half of them in closed epochs, and return its name."""
    made = declared(**changes)
    wire.create(made)
    wire.start(made.name)
    rng = random.Random(7)
    for wave in range(5):
        n_epochs = wire.get(made.name).epoch.number
        serve(wire, made.name, [unit_of(wave * 400 + number) for number in range(400)], rng)
        eventually(lambda before=n_epochs: wire.get(made.name).epoch.number > before)  # type: ignore[misc]
    eventually(lambda: _is_closed(wire, made.name))
    return made.name


def _is_closed(wire: Wire, name: str) -> bool:
    """Make one more decision, so that an old epoch ends; True if most decisions are in closed epochs."""
    wire.choose(name)
    report = wire.report(name)
    n_outcomes = sum(each.outcomes for arm in report.arms for each in arm.metrics)
    n_open = sum(each.open_outcomes for arm in report.arms for each in arm.metrics)
    return n_outcomes > n_open


def library_assessment(
    server: ServerProcess, report: experiment_pb2.Report, split: Mapping[str, float]
) -> Assessment:
    """Return the library's assessment of the same facts, read from the file, at the same time."""
    now = report.report_time.ToDatetime(UTC)
    with closing(open_reader(server.url)) as store:
        read = store.read_report(report.experiment)
    assert read is not None
    found, record = read.found, read.found.record
    floors = smallest_floors(read.declarations, record.arm_numbers)
    epochs = tuple(epoch for epoch in found.epochs if epoch.started_at <= now)
    state = state_of(found.record, epochs, found.facts, timedelta(seconds=LAG), now)
    is_counted = found.record.experiment.analysis_unit == "unit"
    return assess(
        state,
        floors,
        counted=read.units.facts if is_counted else None,
        splits=[{record.arm_numbers[arm]: weight for arm, weight in split.items()}],
    )


def require_equal(report: experiment_pb2.Report, assessment: Assessment, numbers: Mapping[str, int]) -> None:
    """Check that every number of evidence in the report is the library's."""
    for evidence in (assessment.reward, *assessment.others.values()):
        for arm in report.arms:
            (found,) = [each for each in arm.metrics if each.metric == evidence.metric.name]
            mean = evidence.means[numbers[arm.arm]]
            assert isinstance(mean, MeanEstimate)
            require_estimate(found.estimate, mean.mean, mean.standard_error, mean.interval)
            assert found.estimate.n == mean.n
            last = found.looks[-1]
            ends = [mean.mean, mean.interval.lower, mean.interval.upper]
            assert [last.value, last.lower, last.upper] == pytest.approx(ends)
            if arm.arm == report.champion:
                continue
            challenger = evidence.challengers[numbers[arm.arm]]
            difference = challenger.comparison
            assert isinstance(difference, Comparison)
            assert found.comparison.champion_mean == pytest.approx(difference.champion_mean)
            gap = found.estimate.value - found.comparison.champion_mean
            assert found.comparison.difference.value == pytest.approx(gap)
            require_estimate(
                found.comparison.difference,
                difference.difference,
                difference.standard_error,
                difference.interval,
            )
            for claim, made in (
                (challenger.better, found.comparison.better),
                (challenger.worse, found.comparison.worse),
            ):
                assert isinstance(claim, Claim)
                assert made.p_value == pytest.approx(claim.p_value)
                assert made.log_e_value == pytest.approx(claim.process.log_value)


def require_estimate(
    found: evidence_pb2.Estimate, value: float, standard_error: float, interval: Interval
) -> None:
    """Check that the message of an estimate has these numbers."""
    assert found.value == pytest.approx(value)
    assert found.standard_error == pytest.approx(standard_error)
    ends = [interval.lower, interval.upper]
    assert [found.interval.lower, found.interval.upper] == pytest.approx(ends)
    assert found.interval.kind == evidence_pb2.INTERVAL_KIND_CONFIDENCE_SEQUENCE


def get_report(wire: Wire, name: str, **request: object) -> experiment_pb2.Report:
    """Call GetReport with splits and a lift."""
    message = experiment_pb2.GetReportRequest(name=name, **request)  # type: ignore[arg-type]  # passed on
    return wire.experiments.GetReport(message, timeout=20)


@pytest.mark.parametrize("unit", ["ANALYSIS_UNIT_DECISION", "ANALYSIS_UNIT_UNIT"])
def test_the_numbers_are_the_librarys(server: ServerProcess, wire: Wire, unit: str) -> None:
    """Estimates, comparisons, splits and sample ratio equal the library's, by decisions and by units."""
    n_units = 10**9 if unit == "ANALYSIS_UNIT_DECISION" else 700
    analysis_unit = experiment_pb2.AnalysisUnit.Value(unit)
    name = run(wire, lambda number: f"u{number % n_units}", analysis_unit=analysis_unit)
    report = get_report(wire, name, splits=[experiment_pb2.StaticSplit(weights=SPLIT)], lift=0.2)
    require_sane(report)
    assessment = library_assessment(server, report, SPLIT)
    require_equal(report, assessment, {arm: number for number, arm in enumerate(RATES)})
    (value,), (split,) = assessment.splits, report.splits
    assert isinstance(value, SplitValue)
    assert dict(split.weights) == {"a": 0.5, "b": 0.5}
    require_estimate(split.value, value.value, value.standard_error, value.interval)
    gain = value.gain
    assert isinstance(gain, Gain)
    require_estimate(split.gain, gain.value, gain.standard_error, gain.interval)
    assert split.gain.value == pytest.approx(split.earned - split.value.value)
    assert isinstance(assessment.sample_ratio, SampleRatio)
    assert report.sample_ratio.p_value == pytest.approx(assessment.sample_ratio.process.p_value)
    assert [arm.observed for arm in report.sample_ratio.arms] == list(
        assessment.sample_ratio.observed.values()
    )
    n_policy = sum(arm.decisions.policy for arm in report.arms)
    is_fewer = sum(assessment.sample_ratio.observed.values()) < n_policy
    assert is_fewer is (unit == "ANALYSIS_UNIT_UNIT")
    assert (report.outlook.lift, report.outlook.HasField("unsaid")) == (0.2, False)


def test_a_guardrail_that_fell_is_the_verdict_and_is_readable(server: ServerProcess, wire: Wire) -> None:
    """The command line shows evidence, belief and advice; its JSON is the message, without NaN."""
    name = run(wire, lambda number: f"u{number}")
    runner = CliRunner(env={"BANDIT_SERVER": server.address, "COLUMNS": "100"})
    text = runner.invoke(cli, ["report", name, "--split", "a=90,b=10", "--split", "b=1"]).stdout
    flat = " ".join(text.split())
    for part in (
        "evidence on click",
        "error (guardrail)",
        "Take c out: it does harm (error).",
        "a 0.9 / b 0.1",
        "No sample ratio mismatch (SRM): decisions follow the shares",
        "Evidence",
        "Belief",
        "A lift of +10 % would be seen",
        "b is best with probability",
    ):
        assert part in flat
    assert all(len(line) <= 100 for line in text.splitlines())
    printed = runner.invoke(cli, ["report", name, "--json"]).stdout
    found = json.loads(printed, parse_constant=pytest.fail)
    assert '"NaN"' not in printed
    assert "Infinity" not in printed
    assert found["verdict"]["advice"] == "ADVICE_ROLL_BACK"
    assert (found["verdict"]["arm"], found["verdict"]["metric"]) == ("c", "error")


def test_returning_units_are_not_evidence(wire: Wire) -> None:
    """If decisions are counted, evidence is withheld and the notes give the remedy."""
    name = run(wire, lambda number: f"u{number % 40}")
    report = wire.report(name)
    require_sane(report)
    assert {each.reason for each in report.unsaid if "estimate" in each.subjects} == {"repeated-units"}
    assert not any(each.HasField("estimate") for arm in report.arms for each in arm.metrics)
    assert any("units come back" in note for note in report.notes)


@pytest.mark.parametrize(("n_restricted", "is_said"), [(9, False), (10, True)])
def test_a_report_notes_when_much_traffic_is_left_out(
    shared_wire: Wire, n_restricted: int, *, is_said: bool
) -> None:
    """If a tenth of all decisions or more were restricted, a note explains why they are not evidence."""
    name = shared_wire.running()
    plain = [bandit_pb2.ChooseRequest(experiment=name, eligible_arms=["a", "b"])] * (100 - n_restricted)
    restricted = [bandit_pb2.ChooseRequest(experiment=name, eligible_arms=["a"])] * n_restricted
    shared_wire.batch_choose(*plain, *restricted)
    found = [note for note in shared_wire.report(name).notes if "were restricted" in note]
    expected = "10 of 100 decisions (10 %) were restricted: their callers could serve fewer arms than are in"
    assert [note[: len(expected)] for note in found] == [expected] * is_said


def test_a_report_notes_when_many_answers_are_fallbacks(shared_wire: Wire) -> None:
    """If a pause answered half of all calls, a note reports and explains the fallbacks."""
    name = shared_wire.running()
    shared_wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 5)
    shared_wire.pause(name)
    shared_wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 5)
    (note,) = [note for note in shared_wire.report(name).notes if "were fallbacks" in note]
    assert note.startswith("5 of 10 decisions (50 %) were fallbacks: the certain answer while")
