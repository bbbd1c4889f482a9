"""Whole assessments: the test behind a claim, the family of claims, and missing results."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from math import exp, isfinite, isnan

import pytest

from bandit.allocation import ExperimentState
from bandit.decision_id import Basis
from bandit.experiment import Arm
from bandit.facts import DecisionKey, Facts, OutcomeKey, Tally
from bandit.inference.data.table import EvidenceTable, evidence_table, open_evidence_table
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.comparison import Comparison, compare
from bandit.inference.sequential.design import Design
from bandit.inference.sequential.means import MeanEstimate
from bandit.inference.sequential.odds import harm_process
from bandit.inference.sequential.off_policy import SplitValue
from bandit.inference.sequential.sample_ratio import SampleRatio
from bandit.inference.verdict.assessment import Assessment, assess
from bandit.inference.verdict.claims import ALPHA, ChallengerEvidence, Claim, TestKind
from bandit.metric import AbsoluteMargin, Direction, Metric, MetricKind
from tests.bandit.inference.experiment_states import (
    CLICK,
    ERROR,
    FLOORS,
    HOUR,
    STARTED_AT,
    Stretch,
    at,
    even,
    stand,
)

CLEAR = even(*[((500, 50, 5), (500, 100, 5))] * 8)
"""The challenger has twice the clicks."""

SPEND = Metric(
    name="spend", kind=MetricKind.COUNT, maximum=10.0, window=HOUR, default_value=0.0, is_guardrail=True
)


def claim_of(claim: Claim | CannotSay | None) -> Claim:
    """Return the claim, which must not be missing."""
    assert isinstance(claim, Claim)
    return claim


def table_of(state: ExperimentState, metric: Metric, arms: Sequence[int] = (0, 1)) -> EvidenceTable:
    """Return the table of closed epochs."""
    numbered = state.metric_numbers[metric.name], metric
    found = evidence_table(state.facts, state.epochs, numbered, arms, lag=state.lag, now=state.now)
    assert isinstance(found, EvidenceTable)
    return found


def compared(seen: ChallengerEvidence) -> Comparison:
    """Return the comparison, which must not be missing."""
    assert isinstance(seen.comparison, Comparison)
    return seen.comparison


def test_a_yes_no_metric_is_judged_by_centred_odds() -> None:
    """Claims have the processes of the comparison with the champion, at the level of the family."""
    state = stand(CLEAR)
    seen = assess(state, FLOORS).reward.challengers[1]
    found = compare(table_of(state, CLICK), 1, 0, Design(alpha=ALPHA, floors=FLOORS))
    assert seen.comparison == found
    for claim, process in (
        (claim_of(seen.better), compared(seen).better),
        (claim_of(seen.worse), compared(seen).worse),
    ):
        assert (claim.test, claim.process, claim.rows) == (
            TestKind.CENTRED_ODDS,
            process,
            compared(seen).rows,
        )
    assert seen.harm is None


def test_a_clear_difference_is_established_in_its_own_direction_only() -> None:
    """Twice the clicks are established as better and not as worse; the bounds agree."""
    seen = assess(stand(CLEAR), FLOORS).reward.challengers[1]
    assert claim_of(seen.better).p_value < 1e-3
    assert claim_of(seen.better).is_established
    assert claim_of(seen.worse).p_value == 1.0
    assert compared(seen).interval.lower > 0
    lift = compared(seen).lift
    assert not isinstance(lift, CannotSay)
    assert lift.lower > 0


def test_harm_of_events_is_judged_by_odds_as_of_now_and_over_open_epochs() -> None:
    """Errors of a minute ago count, although no epoch has closed; no maximum over epochs is taken."""
    state = stand(even(*[((500, 0, 5), (500, 0, 50))] * 4))
    early = at(state, STARTED_AT + timedelta(minutes=1))
    seen = assess(early, FLOORS).others["error"].challengers[1]
    harm = claim_of(seen.harm)
    assert harm.test is TestKind.ODDS
    assert (len(harm.process.log_values), harm.rows, harm.first_established) == (1, (), None)
    assert harm.is_established
    reason = CannotSay(Reason.NO_CLOSED_EPOCH)
    assert (seen.better, seen.worse, seen.comparison) == (reason,) * 3
    numbered = early.metric_numbers["error"], ERROR
    process = harm_process(open_evidence_table(early.facts, early.epochs, numbered, (0, 1)), 1, 0)
    assert not isinstance(process, CannotSay)
    assert harm.process.log_value == process.log_value


def test_what_was_better_once_and_is_worse_now_has_lapsed() -> None:
    """Status and p-value are those of now; the largest e-value only dates it, at an earlier row."""
    novelty = even(*[((500, 50, 0), (500, 100, 0))] * 8, *[((500, 100, 0), (500, 25, 0))] * 16)
    seen = assess(stand(novelty), FLOORS).reward.challengers[1]
    better, worse = claim_of(seen.better), claim_of(seen.worse)
    assert (better.is_lapsed, better.is_established, better.p_value) == (True, False, 1.0)
    first = assess(stand(novelty[:8]), FLOORS).reward.challengers[1]
    assert better.first_established == claim_of(first.better).first_established
    assert better.first_established in range(1, 8)
    assert better.process.log_maximum > claim_of(first.better).log_level
    assert (worse.is_lapsed, worse.is_established) == (False, True)
    assert worse.first_established in range(9, 24)
    assert compared(seen).interval.upper < 0


@pytest.mark.parametrize("direction", list(Direction))
def test_a_ratio_that_rose_while_the_difference_fell_is_told_as_one_story(direction: Direction) -> None:
    """Twice the rate in epochs with rare events, and a loss in those with many: nothing contradicts itself.

    By conditional odds alone the challenger would be found to have more, with a lower mean.
    """
    crossed = even(*[((1900, 570, 0), (100, 20, 0))] * 8, shares=(0.95, 0.05))
    crossed += even(*[((500, 10, 0), (500, 20, 0))] * 30)
    metric = replace(CLICK, direction=direction)
    seen = assess(stand(crossed, metrics=(metric, ERROR)), FLOORS).reward.challengers[1]
    _require_sound(seen)
    more, less = seen.better, seen.worse
    if direction is Direction.MINIMIZE:
        more, less = less, more
    lift = compared(seen).lift
    assert not isinstance(lift, CannotSay)
    for ends in (compared(seen).interval, lift):
        assert (ends.lower > 0) == claim_of(more).is_established
        assert (ends.upper < 0) == claim_of(less).is_established


def test_harm_that_only_open_epochs_show_is_early() -> None:
    """Harm in open epochs is early: events that are only reported sooner look the same until they close."""
    state = stand(even(*[((500, 0, 5), (500, 0, 50))] * 4))
    first_minute = at(state, STARTED_AT + timedelta(minutes=1))
    early = claim_of(assess(first_minute, FLOORS).others["error"].challengers[1].harm)
    settled = claim_of(assess(state, FLOORS).others["error"].challengers[1].harm)
    assert (early.is_early, settled.is_early) == (True, False)


def test_a_guardrail_of_numbers_is_judged_by_bounded_scores() -> None:
    """A count has no events, so its harm is what closed epochs say: the claim of worse, in its own family."""
    state = stand(CLEAR, metrics=(CLICK, SPEND))
    seen = assess(state, FLOORS).others["spend"].challengers[1]
    harm, worse = claim_of(seen.harm), claim_of(seen.worse)
    assert {claim.test for claim in (harm, worse, claim_of(seen.better))} == {TestKind.BOUNDED_SCORES}
    assert (harm.process, harm.rows) == (worse.process, worse.rows)
    assert (harm.n_tests, worse.n_tests, harm.is_early) == (1, 2, False)


def test_a_yes_no_guardrail_without_events_is_not_judged_by_another_test() -> None:
    """Without any error there is no evidence of harm, and the claim of worse does not replace it."""
    state = stand(even(*[((500, 50, 0), (500, 50, 0))] * 3))
    seen = assess(state, FLOORS).others["error"].challengers[1]
    assert seen.harm == CannotSay(Reason.NO_EVENTS)
    assert claim_of(seen.worse).process.log_value == pytest.approx(0.0, abs=1e-9)
    assert compared(seen).lift == CannotSay(Reason.BOTH_AT_ZERO)


@pytest.mark.parametrize(
    "stretches",
    [
        even(*[((500, 0, 0), (500, 0, 0))] * 3),
        even(*[((990, 50, 0), (10, 5, 0))] * 3, shares=(0.99, 0.01)),
    ],
    ids=["no events", "shares below the floor"],
)
def test_the_metric_alone_decides_the_test(stretches: list[Stretch]) -> None:
    """Without events, or with shares below the floor, the test is the same: the data choose none."""
    seen = assess(stand(stretches), FLOORS).reward.challengers[1]
    for claim in (claim_of(seen.better), claim_of(seen.worse)):
        assert claim.test is TestKind.CENTRED_ODDS
        assert claim.rows == (1, 2)


def test_p_values_are_adjusted_over_challengers_and_directions() -> None:
    """Two challengers in two directions are four claims: each p-value is four times 1 / E now."""
    row = ((400, 40, 4), (400, 60, 4), (400, 44, 4))
    found = assess(stand(even(*[row] * 6), n_arms=3), FLOORS).reward.challengers
    for arm in (1, 2):
        for claim in found[arm].claims:
            assert claim.n_tests == 4
            assert claim.p_value == pytest.approx(min(1.0, 4 * exp(-max(claim.process.log_value, 0.0))))


def test_the_family_keeps_every_challenger_that_there_ever_was() -> None:
    """An arm that was dropped weeks ago still counts, so trying arms one after the other gains nothing."""
    first = Stretch({0: 0.5, 2: 0.5}, {0: (500, 50, 5), 2: (500, 50, 5)})
    later = [Stretch({0: 0.5, 1: 0.5}, {0: (500, 50, 5), 1: (500, 80, 5)})] * 6
    assessment = assess(stand([first, *later]), FLOORS)
    assert set(assessment.reward.challengers) == {1, 2}
    assert claim_of(assessment.reward.challengers[1].better).n_tests == 4
    assert claim_of(assessment.others["error"].challengers[1].harm).n_tests == 2


def test_a_new_arm_has_the_reason_that_it_had_no_share() -> None:
    """An arm that was just added is listed with the reason that it had no share."""
    state = stand(CLEAR)
    added = replace(state, experiment=replace(state.experiment, arms=_arms("champion", "first", "second")))
    seen = assess(added, FLOORS).reward.challengers[2]
    reason = CannotSay(Reason.ARM_WITHOUT_SHARE)
    assert (seen.comparison, seen.better, seen.worse) == (reason,) * 3


def test_a_champion_without_an_epoch_is_no_error() -> None:
    """With a champion that had no traffic yet, every comparison is missing with that reason."""
    state = stand(CLEAR)
    experiment = replace(state.experiment, arms=_arms("champion", "first", "fourth"), champion="fourth")
    assessment = assess(replace(state, experiment=experiment), FLOORS)
    assert assessment.champion == 4
    comparisons = [seen.comparison for seen in assessment.reward.challengers.values()]
    assert comparisons == [CannotSay(Reason.ARM_WITHOUT_SHARE)] * 2
    assert isinstance(assessment.reward.means[0], MeanEstimate)


def test_withheld_evidence_is_withheld_everywhere() -> None:
    """If evidence is withheld, every mean, claim, split and sample ratio is missing with the reason."""
    why = CannotSay(Reason.REPEATED_UNITS)
    assessment = assess(stand(CLEAR), FLOORS, withheld=why, splits=[{0: 0.5, 1: 0.5}])
    assert assessment.sample_ratio == why
    assert assessment.splits == (why,)
    for evidence in (assessment.reward, *assessment.others.values()):
        assert set(evidence.means.values()) == {why}
        for seen in evidence.challengers.values():
            assert (seen.comparison, seen.better, seen.worse) == (why,) * 3
            assert seen.harm == (why if evidence.metric.is_guardrail else None)


def test_units_are_counted_in_place_of_decisions_where_they_are_given() -> None:
    """If unit facts are given, every figure is theirs, whatever the decisions."""
    by_unit = stand(CLEAR)
    by_decision = stand(even(*[((5000, 900, 90), (5000, 100, 10))] * 8))
    counted = assess(by_decision, FLOORS, counted=by_unit.facts)
    assert counted.reward.challengers == assess(by_unit, FLOORS).reward.challengers
    assert isinstance(counted.sample_ratio, SampleRatio)
    assert counted.sample_ratio.observed == {0: 4000, 1: 4000}


def test_fallbacks_late_outcomes_and_open_epochs_change_nothing() -> None:
    """Evidence uses policy decisions of closed epochs, and outcomes that came within the window."""
    extra = Facts(
        decisions={DecisionKey(1, 1, 0, 0, Basis.FALLBACK): 900, DecisionKey(1, 9, 0, 1, Basis.POLICY): 90},
        outcomes={
            OutcomeKey(1, 1, 0, 0, Basis.FALLBACK, 0): Tally(n=900, total=900, squares=900),
            OutcomeKey(1, 9, 0, 1, Basis.POLICY, 0): Tally(n=90, total=90, squares=90),
            OutcomeKey(1, 8, 0, 2, Basis.POLICY, 0): Tally(late_n=9, late_total=9, late_squares=9),
        },
    )
    assert assess(stand(CLEAR, extra=extra), FLOORS).reward == assess(stand(CLEAR), FLOORS).reward


def test_outcomes_that_ignore_silence_need_answers_alike() -> None:
    """If one arm answers half as often, answers are not a sample of decisions, and evidence is missing."""
    ignoring = replace(CLICK, default_value=None)
    state = stand(even(*[((500, 200, 0), (500, 100, 0))] * 8), metrics=(ignoring, ERROR))
    seen = assess(state, FLOORS).reward.challengers[1]
    assert seen.better == CannotSay(Reason.UNEQUAL_RESPONSE)


def test_rows_end_where_the_next_epoch_began() -> None:
    """Every row of a process ends where the next epoch began."""
    assessment = assess(stand(CLEAR), FLOORS)
    assert assessment.reward.row_ends == tuple(STARTED_AT + (row + 1) * HOUR for row in range(8))
    assert claim_of(assessment.reward.challengers[1].better).rows == tuple(range(1, 8))


SITUATIONS: dict[str, ExperimentState] = {
    "no epoch": stand([]),
    "no closed epoch": at(stand(CLEAR), STARTED_AT),
    "no decision": stand(even(*[((0, 0, 0), (0, 0, 0))] * 3)),
    "one decision": stand(even(((1, 1, 0), (0, 0, 0)))),
    "one arm silent": stand(even(*[((50, 5, 0), (0, 0, 0))] * 3)),
    "no success": stand(even(*[((500, 0, 0), (500, 0, 0))] * 3)),
    "all successes": stand(even(*[((500, 500, 500), (500, 500, 500))] * 3)),
    "only one arm succeeds": stand(even(*[((500, 0, 0), (500, 500, 500))] * 3)),
    "one arm only": stand(even(*[((500, 50, 5),)] * 3), n_arms=1),
    "no share for one": stand(even(*[((500, 50, 5), (0, 0, 0))] * 3, shares=(1.0, 0.0))),
    "tiny share": stand(even(*[((500, 50, 5), (1, 1, 0))] * 3, shares=(0.999, 0.001))),
    "no window": stand(CLEAR, metrics=(replace(CLICK, window=None), ERROR)),
    "counts lost in a crash": stand(even(*[((3, 50, 5), (2, 40, 5))] * 3)),
    "minimised reward": stand(CLEAR, metrics=(replace(CLICK, direction=Direction.MINIMIZE), ERROR)),
    "margins": stand(
        CLEAR,
        metrics=(CLICK, replace(ERROR, worse_by=AbsoluteMargin(0.2), is_guardrail=False, is_signal=True)),
    ),
    "negative range": stand(
        CLEAR, metrics=(Metric(name="gain", kind=MetricKind.REAL, minimum=-1.0, window=HOUR), ERROR)
    ),
}


@pytest.mark.parametrize("floors", [{0: 0.0, 1: 0.0}, FLOORS], ids=["zero", "declared"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_nothing_is_nan_and_no_p_value_leaves_its_range(situation: str, floors: dict[int, float]) -> None:
    """Degenerate states have figures or reasons, never NaN; intervals hold their estimates."""
    state = SITUATIONS[situation]
    split = dict.fromkeys(range(len(state.experiment.arms)), 0.5)
    assessment = assess(state, floors, splits=[split])
    for value in _numbers(assessment):
        assert not isnan(value)
    for evidence in (assessment.reward, *assessment.others.values()):
        for mean in evidence.means.values():
            if isinstance(mean, MeanEstimate):
                assert mean.interval.lower <= mean.mean <= mean.interval.upper
                assert mean.interval.lower < mean.interval.upper
        for seen in evidence.challengers.values():
            _require_sound(seen)


def test_few_data_never_make_a_narrow_interval() -> None:
    """With twenty to sixty decisions, all successes, the difference stays almost unknown."""
    for n_epochs, reach in ((1, 1.0), (2, 1.0), (3, 0.3)):
        seen = assess(stand(even(*[((10, 10, 0), (10, 10, 0))] * n_epochs)), FLOORS).reward.challengers[1]
        assert compared(seen).interval.lower <= -reach
        assert compared(seen).interval.upper >= reach
        assert claim_of(seen.better).p_value == pytest.approx(1.0)


def test_evidence_under_a_metric_to_minimise_is_mirrored() -> None:
    """For a metric to minimise, more is worse."""
    minimised = stand(CLEAR, metrics=(replace(CLICK, direction=Direction.MINIMIZE), ERROR))
    seen = assess(minimised, FLOORS).reward.challengers[1]
    assert claim_of(seen.worse).p_value < 1e-3
    assert claim_of(seen.better).p_value == 1.0


def _require_sound(seen: ChallengerEvidence) -> None:
    for claim in (seen.better, seen.worse, seen.harm):
        if isinstance(claim, Claim):
            assert 0 < claim.p_value <= 1
            assert claim.is_established == (claim.p_value <= ALPHA)
            assert not (claim.is_established and claim.is_lapsed)
            assert all(isfinite(value) for value in claim.process.log_values)
            assert len(claim.rows) in (0, len(claim.process.log_values))
    if isinstance(seen.comparison, Comparison):
        found = seen.comparison
        assert found.interval.lower <= found.difference <= found.interval.upper
        assert found.difference == found.mean - found.champion_mean
        if isinstance(found.lift, CannotSay):
            assert found.lift.explanation


def _numbers(value: object) -> Iterator[float]:
    """Yield every float in nested results."""
    match value:
        case bool() | int() | str() | None:
            return
        case float():
            yield value
        case dict():
            for part in value.values():
                yield from _numbers(part)
        case list() | tuple():
            for part in value:
                yield from _numbers(part)
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from _numbers(getattr(value, field.name))


def _arms(*ids: str) -> tuple[Arm, ...]:
    return tuple(Arm(id=arm_id) for arm_id in ids)


def test_values_of_splits_stand_in_the_order_of_the_request() -> None:
    """Each split has its value on the reward; one that was in force all the time has no gain."""
    splits = [{0: 1.0, 1: 1.0}, {1: 1.0}, {0: 0.9, 1: 0.1}]
    even_split, first_only, mostly_champion = assess(stand(CLEAR), FLOORS, splits=splits).splits
    assert isinstance(even_split, SplitValue)
    assert isinstance(first_only, SplitValue)
    assert isinstance(mostly_champion, SplitValue)
    assert even_split.gain == CannotSay(Reason.SPLIT_IN_FORCE)
    assert even_split.value == pytest.approx(0.15)
    assert first_only.value == pytest.approx(0.2)
    assert mostly_champion.value == pytest.approx(0.11)
    assert (even_split.n_decisions, even_split.n_centre, even_split.n_below) == (7000, 1000, 0)


def test_an_assessment_is_pure() -> None:
    """The same state yields the same assessment twice."""
    first: Assessment = assess(stand(CLEAR), FLOORS, splits=[{0: 0.5, 1: 0.5}])
    assert first == assess(stand(CLEAR), FLOORS, splits=[{0: 0.5, 1: 0.5}])
