"""A new arm whose belief starts from another arm's outcomes: numbers fixed at that moment, never evidence."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bandit.experiment import Arm, PriorFrom
from bandit.limits import Limits
from bandit.posteriors import BetaPosterior
from bandit.posteriors.priors import BetaPrior
from server.services.errors import InvalidInputError
from server.services.reports.build import make_report
from server.services.reports.values import ArmReport, Report, ReportRequest
from server.store.records import ReportFacts
from tests.bandit.builders import SECOND
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import BANDIT, NAME, Launched, declared

TAKER = Arm(id="v3", prior_from=PriorFrom("v1", 0.1))


def add(launched: Launched, *arms: Arm, validate_only: bool = False) -> None:
    """Add arms to the experiment, as applying its file does."""
    service = launched.service
    service.run(
        service.experiments.update(
            NAME,
            lambda before: replace(before, arms=(*before.arms, *arms)),
            None,
            validate_only=validate_only,
        )
    )


def known_to(launched: Launched) -> ReportFacts:
    """Return what the store knows."""
    known = launched.service.store.read_report(NAME, SECOND, launched.clock.now())
    assert known is not None
    return known


def report_on(launched: Launched, known: ReportFacts | None = None) -> Report:
    """Return the report on what the store knows."""
    known = known or known_to(launched)
    return make_report(known, ReportRequest(max_epochs=1, splits=()), SECOND, launched.clock.now())


def arm_of(report: Report, arm_id: str) -> ArmReport:
    """Return the report on one arm."""
    return next(arm for arm in report.arms if arm.arm == arm_id)


@pytest.fixture
def launched(launch: Launch) -> Launched:
    """A launch of v2, with outcomes of every metric of v1."""
    started = launch(declared("v2", stages=[BANDIT]))
    started.steps(5)
    started.wait()
    return started


def test_a_new_arm_starts_from_the_discounted_outcomes(launched: Launched) -> None:
    """The posterior of an arm without outcomes is the prior and a tenth of each outcome of its source."""
    seen = arm_of(report_on(launched), "v1").metrics[0].observations.sums
    assert seen.n > 100
    add(launched, TAKER)
    belief = arm_of(report_on(launched), "v3").metrics[0].belief
    assert isinstance(belief, BetaPosterior)
    assert belief.alpha == pytest.approx(1 + 0.1 * seen.total)
    assert belief.beta == pytest.approx(1 + 0.1 * (seen.n - seen.total))
    taken = launched.record.taken_priors["v3"]
    assert taken["click"] == seen.weighted(0.1)
    assert set(taken) == {"click", "error"}


def test_what_was_taken_stays_whatever_the_source_does(launched: Launched) -> None:
    """The source sees more, and leaves: the numbers stay those of the moment when the arm was added."""
    add(launched, replace(TAKER, prior_from=PriorFrom("v2", 0.5)))
    taken = launched.record.taken_priors
    launched.steps(3)
    assert launched.record.taken_priors == taken
    service = launched.service
    service.run(
        service.experiments.update(
            NAME,
            lambda before: replace(before, arms=tuple(arm for arm in before.arms if arm.id != "v2")),
            None,
        )
    )
    assert launched.record.taken_priors == taken
    report = arm_of(report_on(launched), "v3").metrics[0]
    seen = taken["v3"]["click"].merge(report.observations.sums)
    assert report.belief == BetaPrior().update(seen)


def test_belief_starts_there_and_evidence_does_not(launched: Launched) -> None:
    """With what was taken and without, evidence is the same; the posterior of the taker alone differs."""
    add(launched, TAKER)
    launched.steps(5)
    launched.wait()
    known = known_to(launched)
    bare = replace(known, found=replace(known.found, record=replace(known.found.record, taken_priors={})))
    with_prior, without = report_on(launched, known), report_on(launched, bare)
    assert with_prior.evidence.assessment == without.evidence.assessment
    assert with_prior.evidence.ruling == without.evidence.ruling
    beliefs = [
        {arm.arm: [metric.belief for metric in arm.metrics] for arm in report.arms}
        for report in (with_prior, without)
    ]
    assert {arm for arm in beliefs[0] if beliefs[0][arm] != beliefs[1][arm]} == {"v3"}


def test_shares_follow_it_from_the_first_epoch(launch: Launch) -> None:
    """One new arm starts from the better arm, one from the worse: each gets its source's share at once."""
    launched = launch(replace(declared("v2", limits=Limits()), launch=None))
    launched.answer = lambda arm_id: {"click": float(arm_id == "v1"), "error": 0.0}
    launched.steps(3)
    launched.wait()
    add(launched, *(Arm(id=f"like-{arm_id}", prior_from=PriorFrom(arm_id, 1.0)) for arm_id in ("v1", "v2")))
    assert launched.share("like-v1") > 0.3
    assert launched.share("like-v2") < 0.01


def test_the_report_says_how_strong_it_is(launched: Launched) -> None:
    """The source, its weight and what that came to stand in a note."""
    add(launched, TAKER)
    n = launched.record.taken_priors["v3"]["click"].n
    (note,) = [note for note in report_on(launched).notes if note.startswith("Belief about v3 ")]
    assert note.startswith("Belief about v3 starts from outcomes of v1, each counted as 0.1, as they stood ")
    assert f"when v3 was added: {n:,.4g} of click (mean " in note
    assert note.endswith("Evidence does not use them.")


def test_nothing_is_taken_of_an_arm_without_outcomes(launch: Launch) -> None:
    """In a new experiment, and of an arm that is added at the same time, there is nothing to take."""
    challengers = replace(declared("v2", stages=[BANDIT]), arms=(Arm(id="v1"), Arm(id="v2"), TAKER))
    launched = launch(challengers)
    assert launched.record.taken_priors == {}
    notes = report_on(launched).notes
    assert "v3 was to start from outcomes of v1, which had none when v3 was added." in notes
    launched.steps(2)
    add(launched, Arm(id="v4"), Arm(id="v5", prior_from=PriorFrom("v4", 1.0)))
    assert launched.record.taken_priors == {}


def test_validation_alone_stores_nothing(launched: Launched) -> None:
    """A dry run checks, and leaves the experiment as it was."""
    before = launched.record
    add(launched, TAKER, validate_only=True)
    assert launched.record == before


@pytest.mark.parametrize(
    ("arms", "path", "rule"),
    [
        ([Arm(id="v3", prior_from=PriorFrom("v9", 0.1))], "arms[2].prior_from.arm", "'v9' is not, and never"),
        ([Arm(id="v3", prior_from=PriorFrom("v3", 0.1))], "arms[2].prior_from.arm", "must be another arm"),
        ([Arm(id="v3", prior_from=PriorFrom("v 1", 0.1))], "arms[2].prior_from.arm", "'v 1': "),
        ([Arm(id="v3", prior_from=PriorFrom("v1", 0.0))], "arms[2].prior_from.weight", "must be in (0, 1]"),
        ([Arm(id="v3", prior_from=PriorFrom("v1", 1.5))], "arms[2].prior_from.weight", "got 1.5"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(
    launched: Launched, arms: Sequence[Arm], path: str, rule: str
) -> None:
    """The error names the field and the rule, and nothing has changed."""
    before = launched.record
    with pytest.raises(InvalidInputError) as refused:
        add(launched, *arms)
    (violation,) = refused.value.violations
    assert violation.field == path
    assert rule in violation.description
    assert launched.record == before
