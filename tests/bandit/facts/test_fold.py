"""The fold of facts equals a replay of the events, decision by decision, under every rule for silence."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.allocation import posteriors_from
from bandit.decision_id import STEERING, Basis
from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
from bandit.facts.fold import ArmObservations, Weighting, fold_facts
from bandit.metric import Metric, MetricKind
from bandit.posteriors import BetaPosterior
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import BetaPrior
from tests.bandit.builders import (
    HOUR,
    MINUTE,
    NOTHING,
    SECOND,
    START,
    binary_tally,
    decision_key,
    make_epoch,
    outcome_key,
)

ARMS = (0, 1)
METRIC = 3
LAG = 5 * SECOND
WINDOW = 10 * MINUTE
NO_WINDOW = Metric(name="x", kind=MetricKind.REAL, minimum=-1.0, maximum=3.0)
IGNORING = Metric(name="x", kind=MetricKind.REAL, minimum=-1.0, maximum=3.0, window=WINDOW)
WITH_DEFAULT = Metric(
    name="x", kind=MetricKind.REAL, minimum=-1.0, maximum=3.0, window=WINDOW, default_value=0.5
)
METRICS = pytest.mark.parametrize(
    "metric", [NO_WINDOW, IGNORING, WITH_DEFAULT], ids=["no window", "ignore", "default"]
)


@dataclass(frozen=True, slots=True)
class Event:
    """A decision and, if it was answered, when and with which value."""

    epoch: int
    arm: int
    basis: Basis
    decided_at: datetime
    answered_at: datetime | None
    quanta: int

    def is_late(self, window: timedelta | None) -> bool:
        """True if the answer came after the window."""
        assert self.answered_at is not None
        return window is not None and self.answered_at - self.decided_at > window


@dataclass(frozen=True, slots=True)
class History:
    """Epochs and what happened in them, up to a moment."""

    epochs: tuple[Epoch, ...]
    events: tuple[Event, ...]
    now: datetime

    def facts(self, window: timedelta | None) -> Facts:
        """Return what a server would have counted by then."""
        decisions: dict[DecisionKey, int] = {}
        outcomes: dict[OutcomeKey, Tally] = {}
        for event in self.events:
            key = decision_key(event.epoch, event.arm, event.basis)
            decisions[key] = decisions.get(key, 0) + 1
            if event.answered_at is not None and event.answered_at <= self.now:
                of_arm = outcome_key(event.epoch, event.arm, event.basis, METRIC)
                tally = Tally.of(event.quanta, is_late=event.is_late(window))
                outcomes[of_arm] = outcomes.get(of_arm, Tally()).plus(tally)
        return Facts(decisions=decisions, outcomes=outcomes)

    def is_closed(self, number: int, window: timedelta) -> bool:
        """True if nothing of an epoch can be in time any more."""
        ends = [epoch.started_at for epoch in self.epochs if epoch.number == number + 1]
        return bool(ends) and ends[0] + LAG + window <= self.now


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A few epochs with a few decisions each, answered in time, late or not at all, seen at some moment."""
    lengths = draw(st.lists(st.integers(1, 1200), min_size=1, max_size=4))
    starts = [START]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length * SECOND)
    epochs = tuple(make_epoch(number, start) for number, start in enumerate(starts, 1))
    now = starts[-1] + draw(st.integers(0, 2000)) * SECOND
    kinds = st.tuples(
        st.integers(1, len(epochs)),
        st.sampled_from(ARMS),
        st.sampled_from(Basis),
        st.integers(0, 1200),
        st.none() | st.integers(0, 1500),
        st.sampled_from([0, 1, 7, 2**19, 2**20]),
    )
    events = []
    for number, arm, basis, offset, delay, quanta in draw(st.lists(kinds, max_size=16)):
        # A replica may go on with an epoch for the lag after its end, and no longer.
        end = starts[number] + LAG if number < len(starts) else now
        decided_at = min(starts[number - 1] + offset * SECOND, end, now)
        answered_at = None if delay is None else decided_at + delay * SECOND
        events.append(Event(number, arm, basis, decided_at, answered_at, quanta))
    return History(epochs, tuple(events), now)


def replay(history: History, metric: Metric, arm: int) -> list[tuple[Event, int]]:
    """Return the observations that steer an arm, one by one, by the rule for silence and outcomes."""
    steering: list[tuple[Event, int]] = []
    for event in history.events:
        if event.arm != arm or event.basis not in STEERING:
            continue
        has_answered = event.answered_at is not None and event.answered_at <= history.now
        if metric.window is None:
            if has_answered:
                steering.append((event, event.quanta))
            continue
        if not history.is_closed(event.epoch, metric.window):
            continue
        if has_answered and not event.is_late(metric.window):
            steering.append((event, event.quanta))
        elif metric.default_value is not None:
            steering.append((event, metric.quantise(metric.default_value)))
    return steering


def exact_sums(quanta: Iterable[tuple[int, Fraction]], metric: Metric) -> OutcomeMoments:
    """Return number, mean and centred squares of weighted quanta, in exact fractions."""
    values = [
        (Fraction(metric.offset) + value * Fraction(metric.quantum), weight) for value, weight in quanta
    ]
    n = sum((weight for _, weight in values), Fraction())
    if n == 0:
        return OutcomeMoments()
    mean = sum((weight * value for value, weight in values), Fraction()) / n
    squares = sum((weight * (value - mean) ** 2 for value, weight in values), Fraction())
    return OutcomeMoments(float(n), float(mean), float(squares))


def assert_close(found: OutcomeMoments, expected: OutcomeMoments) -> None:
    """Assert equality up to rounding."""
    assert found.n == pytest.approx(expected.n, rel=1e-12, abs=1e-12)
    if expected.n > 0:
        assert found.mean == pytest.approx(expected.mean, rel=1e-9, abs=1e-9)
        assert found.centred_squares == pytest.approx(expected.centred_squares, rel=1e-9, abs=1e-9)


def fold(history: History, metric: Metric, weighting: Weighting) -> dict[int, ArmObservations]:
    """Return the fold of what was counted."""
    facts = history.facts(metric.window)
    return fold_facts(facts, history.epochs, (METRIC, metric), ARMS, weighting=weighting, now=history.now)


@METRICS
@settings(max_examples=60)
@given(history=histories())
def test_the_fold_is_the_replay(history: History, metric: Metric) -> None:
    """Summing facts over epochs gives what counting every decision by the rule gives."""
    evidence = fold(history, metric, Weighting(lag=LAG))
    for arm in ARMS:
        expected = replay(history, metric, arm)
        assert evidence[arm].sums.n == len(expected)
        assert_close(
            evidence[arm].sums, exact_sums([(quanta, Fraction(1)) for _, quanta in expected], metric)
        )


@METRICS
@settings(max_examples=60)
@given(history=histories())
def test_what_is_not_counted_yet_is_reported_separately(history: History, metric: Metric) -> None:
    """Posted outcomes of closed epochs, of open ones and late ones are counted separately."""
    evidence = fold(history, metric, Weighting(lag=LAG))
    for arm in ARMS:
        posted = [
            event
            for event in history.events
            if event.arm == arm
            and event.basis in STEERING
            and event.answered_at is not None
            and event.answered_at <= history.now
        ]
        timely = [event for event in posted if not event.is_late(metric.window)]
        closed = [
            event
            for event in timely
            if metric.window is None or history.is_closed(event.epoch, metric.window)
        ]
        seen = evidence[arm]
        assert (seen.n_outcomes, seen.n_open, seen.n_late) == (
            len(closed),
            len(timely) - len(closed),
            len(posted) - len(timely),
        )


@METRICS
@settings(max_examples=50)
@given(history=histories(), minutes=st.integers(1, 60), lookback=st.none() | st.integers(1, 40))
def test_decay_weights_every_observation_by_the_age_of_its_epoch(
    history: History, metric: Metric, minutes: int, lookback: int | None
) -> None:
    """With a half-life, an observation weighs 2^(-age of its epoch / half-life); beyond lookback, nothing."""
    half_life = minutes * MINUTE
    memory = None if lookback is None else lookback * MINUTE
    evidence = fold(history, metric, Weighting(half_life=half_life, lookback=memory, lag=LAG))
    starts = {epoch.number: epoch.started_at for epoch in history.epochs}

    def weight(event: Event) -> Fraction:
        age = history.now - starts[event.epoch]
        if memory is not None and age > memory:
            return Fraction(0)
        return Fraction(exp(-log(2) * (age / half_life)))

    for arm in ARMS:
        weighted = [(quanta, weight(event)) for event, quanta in replay(history, metric, arm)]
        assert_close(evidence[arm].sums, exact_sums(weighted, metric))


@settings(max_examples=50)
@given(history=histories(), seed=st.randoms(use_true_random=False))
def test_facts_fold_in_any_order(history: History, seed: object) -> None:
    """The order in which facts are listed does not change a single digit."""
    facts = history.facts(WINDOW)
    decisions, outcomes = list(facts.decisions.items()), list(facts.outcomes.items())
    seed.shuffle(decisions)  # type: ignore[attr-defined]
    seed.shuffle(outcomes)  # type: ignore[attr-defined]
    shuffled = Facts(decisions=dict(decisions), outcomes=dict(outcomes))

    def folded(of: Facts) -> dict[int, ArmObservations]:
        weighting = Weighting(half_life=HOUR, lag=LAG)
        return fold_facts(
            of, history.epochs, (METRIC, WITH_DEFAULT), ARMS, weighting=weighting, now=history.now
        )

    assert folded(shuffled) == folded(facts)


CLOSED = [make_epoch(1), make_epoch(2, START + HOUR)]
LATER = START + 10 * HOUR
SUBSCRIBED = Metric(name="subscribed", window=WINDOW, default_value=0.0)


def fold_closed(facts: Facts, metric: Metric, epochs: Sequence[Epoch] = CLOSED) -> ArmObservations:
    """Return the observations of the first arm, long after."""
    return fold_facts(facts, epochs, (0, metric), [0], weighting=Weighting(lag=LAG), now=LATER)[0]


@pytest.mark.parametrize("basis", list(Basis))
def test_only_policy_and_restricted_decisions_steer(basis: Basis) -> None:
    """Outcomes and silence of any other basis leave the observations empty."""
    facts = Facts(
        decisions={decision_key(1, 0, basis): 10},
        outcomes={outcome_key(1, 0, basis): binary_tally(4, 3)},
    )
    expected = {Basis.POLICY: 10.0, Basis.RESTRICTED: 10.0}.get(basis, 0.0)
    seen = fold_closed(facts, SUBSCRIBED)
    assert (seen.sums.n, seen.n_outcomes) == (expected, 4 if expected else 0)


def test_an_outcome_whose_decision_was_never_counted_counts() -> None:
    """A crash loses decision counts and no outcomes: three outcomes of two counted decisions are three."""
    facts = Facts(decisions={decision_key(1, 0): 2}, outcomes={outcome_key(1, 0): binary_tally(3, 2)})
    assert fold_closed(facts, SUBSCRIBED).sums == OutcomeMoments.from_successes(3, 2)
    uncounted = Facts(decisions={}, outcomes=facts.outcomes)
    assert fold_closed(uncounted, SUBSCRIBED).sums == OutcomeMoments.from_successes(3, 2)


def test_a_late_outcome_was_silence() -> None:
    """An outcome that came late leaves the default in the observations, and is reported separately."""
    late = Tally.of(1, is_late=True)
    facts = Facts(decisions={decision_key(1, 0): 1}, outcomes={outcome_key(1, 0): late})
    seen = fold_closed(facts, SUBSCRIBED)
    assert seen == ArmObservations(sums=OutcomeMoments.from_successes(1, 0), n_late=1)


def test_silence_of_an_open_epoch_is_not_yet_known() -> None:
    """In the epoch in force, neither outcomes nor silence steer."""
    facts = Facts(decisions={decision_key(2, 0): 100}, outcomes={outcome_key(2, 0): binary_tally(5, 5)})
    assert fold_closed(facts, SUBSCRIBED) == ArmObservations(n_open=5)


def test_other_metrics_and_arms_are_left_out() -> None:
    """Facts of another metric or arm do not enter."""
    facts = Facts(
        decisions={},
        outcomes={
            outcome_key(1, 0, metric=1): binary_tally(3, 3),
            outcome_key(1, 1): binary_tally(4, 4),
            outcome_key(1, 0): binary_tally(2, 1),
        },
    )
    evidence = fold_facts(facts, CLOSED, (0, Metric(name="x")), [0, 5], weighting=Weighting(), now=LATER)
    assert evidence == {
        0: ArmObservations(sums=OutcomeMoments.from_successes(2, 1), n_outcomes=2),
        5: ArmObservations(),
    }


def test_other_segments_are_left_out() -> None:
    """Epochs of another segment have the same numbers, and none of their decisions or outcomes count."""
    facts = Facts(
        decisions={decision_key(1, 0): 3, decision_key(1, 0)._replace(segment=1): 9},
        outcomes={
            outcome_key(1, 0): binary_tally(2, 1),
            outcome_key(1, 0)._replace(segment=1): binary_tally(7, 7),
        },
    )
    seen = fold_closed(facts, SUBSCRIBED)
    assert seen == ArmObservations(sums=OutcomeMoments.from_successes(3, 1), n_outcomes=2)


def test_without_facts_there_are_no_observations() -> None:
    """Before the first decision every arm's observations are empty, and its posterior is the prior."""
    metric = Metric(name="x", prior=BetaPrior(2.0, 3.0))
    evidence = fold_facts(NOTHING, [], (0, metric), ARMS, weighting=Weighting(), now=START)
    assert evidence == {0: ArmObservations(), 1: ArmObservations()}
    assert posteriors_from(metric, evidence) == dict.fromkeys(ARMS, BetaPosterior(2.0, 3.0))


def test_a_posterior_is_prior_and_observations() -> None:
    """The prior is not weighted: decayed observations are added to all of it."""
    metric = Metric(name="x", prior=BetaPrior(2.0, 3.0))
    facts = Facts(decisions={}, outcomes={outcome_key(1, 0): binary_tally(10, 4)})
    weighting = Weighting(half_life=5 * HOUR)
    evidence = fold_facts(facts, [make_epoch(1)], (0, metric), [0], weighting=weighting, now=LATER)
    assert posteriors_from(metric, evidence)[0] == BetaPosterior(2.0 + 1.0, 3.0 + 1.5)


@pytest.mark.parametrize(
    ("weighting", "age", "expected"),
    [
        (Weighting(), 1000 * HOUR, 1.0),
        (Weighting(half_life=HOUR), HOUR, 0.5),
        (Weighting(half_life=HOUR), 3 * HOUR, 0.125),
        (Weighting(half_life=HOUR), -HOUR, 1.0),
        (Weighting(half_life=SECOND), 3650 * 24 * HOUR, 0.0),
        (Weighting(lookback=HOUR), HOUR, 1.0),
        (Weighting(lookback=HOUR), HOUR + timedelta(microseconds=1), 0.0),
        (Weighting(half_life=HOUR, lookback=2 * HOUR), 2 * HOUR, 0.25),
        (Weighting(half_life=HOUR, lookback=2 * HOUR), 2 * HOUR + SECOND, 0.0),
    ],
)
def test_weights(weighting: Weighting, age: timedelta, expected: float) -> None:
    """An epoch's weight is in [0, 1], even when the clock went back or the age is immense."""
    assert weighting.weight(START, START + age) == expected
