"""Choose: exact propensities, sticky units, honest reasons, and pins that hold as long as they may."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from scipy.special import chdtrc

from bandit.decision_id import NO_UNIT, Basis, hash_unit
from bandit.experiment import Arm
from bandit.metric import Metric
from server.services.choose.chooser import Choice, Question
from server.services.snapshot.offers import Reason
from server.store.records import State
from tests.bandit.builders import CLICKS, HOUR, declare
from tests.services.support import LAG, MAX_STALENESS, SIGNER, Bench, epoch_with, flush_of, running

SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
FALSE_ALARM = 1e-6
"""A test of proportions fails by chance once in a million runs; the seeds are fixed."""


@pytest.fixture
def bench() -> Bench:
    """A chooser over three arms."""
    return Bench.of(SHARES)


def ask(bench: Bench, unit: str = "", eligible: tuple[str, ...] = (), previous: str = "") -> Choice:
    """Return the answer to a question."""
    return bench.chooser.choose_within(
        bench.experiment, Question(unit=unit, eligible_arms=eligible, previous_decision_id=previous)
    )


def p_value(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Return the p-value of the chi-square test that the counts were drawn from the shares."""
    total = sum(counts.values())
    statistic = sum((counts[arm] - total * share) ** 2 / (total * share) for arm, share in shares.items())
    return float(chdtrc(len(shares) - 1, statistic))


def basis_of(choice: Choice) -> Basis:
    """Return the basis of an answer's decision."""
    return SIGNER.read(choice.decision_id).terms.basis


def test_the_propensity_is_the_share_of_the_epoch() -> None:
    """Every answer carries, to the last bit, the share that is stored for its epoch."""
    shares = {"a": 0.1 + 0.2, "b": 1 / 3, "c": 1 - (0.1 + 0.2) - 1 / 3}
    bench = Bench.of(shares)
    for number in range(50):
        for unit in ("", f"user-{number}"):
            choice = bench.chooser.choose(bench.experiment, unit)
            terms = SIGNER.read(choice.decision_id).terms
            assert terms.propensity == shares[choice.offer.arm.id]
            assert (terms, terms.basis, choice.offer.reason) == (
                choice.offer.terms,
                Basis.POLICY,
                Reason.POLICY,
            )


def test_a_decision_names_its_origin(bench: Bench) -> None:
    """The signed decision holds experiment, epoch, nonce, arm, time and the unit's mark."""
    choice = bench.chooser.choose(bench.experiment, "user-1")
    decision = SIGNER.read(choice.decision_id)
    record, epoch = bench.experiment.record, bench.experiment.epoch
    terms = decision.terms
    assert (terms.experiment, terms.epoch, terms.nonce) == (record.number, epoch.number, epoch.nonce)
    assert record.arm_id(terms.arm) == choice.offer.arm.id
    assert decision.decided_ms == bench.clock.time_ms()
    assert decision.unit_hash == hash_unit(bench.experiment.salt, b"user-1")
    assert SIGNER.read(bench.chooser.choose(bench.experiment, "").decision_id).unit_hash == NO_UNIT


def test_a_unit_stays_on_its_arm(bench: Bench) -> None:
    """The same unit gets the same arm, with a new decision each time, also from another server."""
    other = Bench.of(SHARES)
    for number in range(100):
        unit = f"user-{number}"
        answers = [server.chooser.choose(server.experiment, unit) for server in (bench, bench, other)]
        assert len({answer.offer.arm.id for answer in answers}) == 1
        assert len({answer.decision_id for answer in answers}) == 3


def test_units_are_assigned_in_proportion(bench: Bench) -> None:
    """Over twenty thousand units the arms' counts are those of the shares (chi-square at 1e-6)."""
    experiment = bench.experiment
    counts = Counter(
        bench.chooser.choose(experiment, f"user-{number}").offer.arm.id for number in range(20_000)
    )
    assert p_value(counts, SHARES) > FALSE_ALARM


def test_draws_are_in_proportion(bench: Bench) -> None:
    """Over twenty thousand draws without a unit the arms' counts are those of the shares."""
    bench.chooser._generator = random.Random(20260301)
    experiment = bench.experiment
    counts = Counter(bench.chooser.choose(experiment, "").offer.arm.id for _ in range(20_000))
    assert p_value(counts, SHARES) > FALSE_ALARM


def test_the_test_of_proportions_can_fail(bench: Bench) -> None:
    """The same counts are not those of shares that differ by three per cent: the test is sensitive."""
    counts = Counter(
        bench.chooser.choose(bench.experiment, f"user-{number}").offer.arm.id for number in range(20_000)
    )
    assert p_value(counts, {"a": 0.53, "b": 0.27, "c": 0.2}) < FALSE_ALARM


def test_fewer_arms_share_in_proportion(bench: Bench) -> None:
    """Among eligible arms the shares keep their proportion, and the decision is restricted."""
    seen = {}
    for number in range(200):
        choice = ask(bench, f"user-{number}", ("c", "a"))
        assert basis_of(choice) is Basis.RESTRICTED
        seen[choice.offer.arm.id] = choice.offer.terms.propensity
    assert seen == {"a": pytest.approx(0.5 / 0.7), "c": pytest.approx(0.2 / 0.7)}
    draws = Counter(ask(bench, "", ("c", "a")).offer.arm.id for _ in range(100))
    assert set(draws) == {"a", "c"}


def test_restricted_units_are_in_proportion(bench: Bench) -> None:
    """Over ten thousand restricted units the counts are those of the restricted shares."""
    counts = Counter(ask(bench, f"user-{number}", ("c", "a")).offer.arm.id for number in range(10_000))
    assert p_value(counts, {"a": 5 / 7, "c": 2 / 7}) > FALSE_ALARM


def test_a_restriction_moves_only_whom_it_must(bench: Bench) -> None:
    """A unit whose own arm is eligible keeps it."""
    for number in range(300):
        own = ask(bench, f"user-{number}").offer.arm.id
        restricted = ask(bench, f"user-{number}", ("a", "b")).offer.arm.id
        assert own in {restricted, "c"}


def test_unknown_eligible_arms_are_left_out(bench: Bench) -> None:
    """Eligible arms that the experiment does not have change nothing for those that it has."""
    choice = ask(bench, "user-1", ("b", "x", "b", ""))
    assert (choice.offer.arm.id, choice.offer.terms.propensity) == ("b", 1.0)


def test_eligible_arms_without_a_share_are_chosen_evenly() -> None:
    """If the caller can only serve arms whose shares are 0, they share evenly."""
    bench = Bench.of({"a": 1.0, "b": 0.0, "c": 0.0})
    counts = Counter(ask(bench, f"user-{number}", ("b", "c")).offer.arm.id for number in range(2_000))
    assert p_value(counts, {"b": 0.5, "c": 0.5}) > FALSE_ALARM
    assert basis_of(ask(bench, "user-1", ("b", "c"))) is Basis.RESTRICTED
    assert ask(bench, "user-1", ("b", "c")).offer.terms.propensity == 0.5
    assert {ask(bench, f"user-{number}", ("a", "b")).offer.arm.id for number in range(50)} == {"a"}


@pytest.mark.parametrize("eligible", [("x",), ("b",), ("b", "y")])
def test_without_an_eligible_arm_the_champion_answers(eligible: tuple[str, ...]) -> None:
    """If no eligible arm is in service the champion answers, with that reason, and does not steer."""
    bench = Bench.of({"a": 1.0, "b": 0.0}, out=["b"])
    choice = ask(bench, "user-1", eligible)
    terms = SIGNER.read(choice.decision_id).terms
    assert (choice.offer.arm.id, choice.offer.reason) == ("a", Reason.NO_ELIGIBLE_ARM)
    assert (terms.basis, terms.propensity) == (Basis.FALLBACK, 1.0)


def test_the_reason_names_a_warm_up() -> None:
    """The reason is warm-up for exactly the arms that the epoch names."""
    record = running(declare(arms=("a", "b")))
    bench = Bench(record, replace(epoch_with(record, {"a": 0.5, "b": 0.5}), warming_up=frozenset({1})))
    reasons = {
        choice.offer.arm.id: choice.offer.reason for choice in (ask(bench, f"u{n}") for n in range(50))
    }
    assert reasons == {"a": Reason.POLICY, "b": Reason.WARM_UP}


@pytest.mark.parametrize(
    ("state", "arm", "reason"),
    [(State.PAUSED, "a", Reason.PAUSED), (State.CONCLUDED, "b", Reason.CONCLUDED)],
)
@pytest.mark.parametrize("eligible", [(), ("c",)])
def test_a_stopped_experiment_has_one_answer(
    bench: Bench, state: State, arm: str, reason: Reason, eligible: tuple[str, ...]
) -> None:
    """Paused, the champion answers; concluded, the winner; with certainty, as a fallback, unmarked."""
    record = replace(bench.experiment.record, state=state, revision=3, winner="b")
    bench.put(record, bench.experiment.epoch)
    for unit in ("", "user-1", "user-2"):
        choice = ask(bench, unit, eligible)
        decision = SIGNER.read(choice.decision_id)
        assert (choice.offer.arm.id, choice.offer.reason) == (arm, reason)
        assert (decision.terms.basis, decision.terms.propensity) == (Basis.FALLBACK, 1.0)
        assert decision.unit_hash == NO_UNIT


@pytest.mark.parametrize("eligible", [(), ("a", "b")])
def test_beyond_the_lag_decisions_are_unconfirmed(bench: Bench, eligible: tuple[str, ...]) -> None:
    """A snapshot older than the lag still chooses by the shares, and its decisions are unconfirmed."""
    confirmed = ask(bench, "user-1", eligible)
    bench.clock.advance(LAG)
    assert basis_of(ask(bench, "user-1", eligible)) is basis_of(confirmed)
    bench.clock.advance(0.001)
    choice = ask(bench, "user-1", eligible)
    assert basis_of(choice) is Basis.UNCONFIRMED
    assert choice.offer.arm == confirmed.offer.arm
    assert choice.offer.terms.propensity == confirmed.offer.terms.propensity


@pytest.mark.parametrize("eligible", [(), ("b", "c")])
def test_a_stale_snapshot_answers_with_the_champion(bench: Bench, eligible: tuple[str, ...]) -> None:
    """Past the longest staleness the champion answers; once the store is reached again, the shares do."""
    bench.clock.advance(MAX_STALENESS)
    assert basis_of(ask(bench, "user-1", eligible)) is Basis.UNCONFIRMED
    bench.clock.advance(0.001)
    choice = ask(bench, "user-1", eligible)
    assert (choice.offer.arm.id, choice.offer.reason) == ("a", Reason.STALE)
    assert basis_of(choice) is Basis.FALLBACK
    bench.put(bench.experiment.record, bench.experiment.epoch)
    assert basis_of(ask(bench, "user-1")) is Basis.POLICY


def test_every_answer_is_counted_once(bench: Bench) -> None:
    """Decisions are counted under their epoch, arm and basis, and are all in the next flush."""
    expected: Counter[tuple[str, Basis]] = Counter()
    for number in range(60):
        for choice in (ask(bench, f"user-{number}"), ask(bench, f"user-{number}", ("b",))):
            expected[choice.offer.arm.id, basis_of(choice)] += 1
    flush = flush_of(bench.counter)
    assert flush is not None
    record = bench.experiment.record
    found = {(record.arm_id(key.arm), key.basis): count for key, count in flush.counts.items()}
    assert found == expected
    assert sum(flush.counts.values()) == 120


def assert_pinned(bench: Bench, previous: Choice, unit: str, eligible: tuple[str, ...] = ()) -> None:
    """Assert that the earlier decision is handed out again, and is not counted again."""
    flush_of(bench.counter)
    n_before = sum(bench.counter.totals.values())
    choice = ask(bench, unit, eligible, previous.decision_id)
    assert choice.decision_id == previous.decision_id
    assert (choice.offer.arm, choice.offer.reason) == (previous.offer.arm, Reason.PINNED)
    assert choice.offer.terms == previous.offer.terms
    flush_of(bench.counter)
    assert sum(bench.counter.totals.values()) == n_before


def assert_fresh(bench: Bench, previous: str, unit: str, eligible: tuple[str, ...] = ()) -> None:
    """Assert that the earlier decision does not hold, and another one is made."""
    choice = ask(bench, unit, eligible, previous)
    assert choice.decision_id != previous
    assert choice.offer.reason is not Reason.PINNED


@pytest.mark.parametrize("unit", ["", "user-1"])
def test_an_earlier_decision_is_handed_out_again(bench: Bench, unit: str) -> None:
    """A caller that hands a decision back gets the same one, however often: one exposure, one credit."""
    previous = ask(bench, unit)
    for _ in range(3):
        assert_pinned(bench, previous, unit)
    assert_pinned(bench, previous, unit, (previous.offer.arm.id,))


def test_a_pin_outlives_its_epoch(bench: Bench) -> None:
    """When shares have moved, the decision keeps its epoch, arm and propensity."""
    previous = ask(bench, "user-1")
    others = {arm: 0.0 if arm == previous.offer.arm.id else 0.5 for arm in SHARES}
    bench.put(bench.experiment.record, epoch_with(bench.experiment.record, others, 2))
    assert ask(bench, "user-1").offer.arm.id != previous.offer.arm.id
    assert_pinned(bench, previous, "user-1")


def test_restricted_and_unconfirmed_decisions_are_pinned_too(bench: Bench) -> None:
    """Any decision that was drawn can be handed back."""
    assert_pinned(bench, ask(bench, "user-1", ("b",)), "user-1")
    bench.clock.advance(LAG + 1)
    assert_pinned(bench, ask(bench, "user-1"), "user-1")


def test_a_pin_belongs_to_its_unit(bench: Bench) -> None:
    """A decision of another unit, or without one, is not handed out to this one."""
    of_unit, of_none = ask(bench, "user-1").decision_id, ask(bench).decision_id
    assert_fresh(bench, of_unit, "user-2")
    assert_fresh(bench, of_unit, "")
    assert_fresh(bench, of_none, "user-1")


def test_a_pin_belongs_to_its_experiment(bench: Bench) -> None:
    """A decision of another experiment is not handed out, although this service signed it."""
    other = running(declare(arms=tuple(SHARES)), number=2)
    theirs = Bench(other, epoch_with(other, SHARES))
    assert_fresh(bench, ask(theirs, "user-1").decision_id, "user-1")


@pytest.mark.parametrize("garbage", ["x", "A" * 80, "\0", "ü" * 80, "A" * 10_000])
def test_a_pin_that_is_not_a_decision_is_ignored(bench: Bench, garbage: str) -> None:
    """A forged or damaged decision is not an error: a new one is made."""
    assert_fresh(bench, garbage, "user-1")


def test_a_pin_does_not_outlive_its_windows() -> None:
    """A decision is handed out while one of its windows is open, to the millisecond."""
    metrics = [Metric(name="clicks", window=HOUR), Metric(name="sales", window=2 * HOUR)]
    record = running(declare(arms=tuple(SHARES), metrics=metrics))
    bench = Bench(record, epoch_with(record, SHARES))
    previous = ask(bench, "user-1")
    for seconds in (3601.0, 3599.0):
        bench.clock.advance(seconds)
        bench.put(record, bench.experiment.epoch)
        assert_pinned(bench, previous, "user-1")
    bench.clock.advance(0.001)
    assert_fresh(bench, previous.decision_id, "user-1")


def test_without_windows_a_pin_holds_while_outcomes_are_accepted() -> None:
    """Without any window a decision is handed out until it expires."""
    experiment = replace(
        declare(arms=tuple(SHARES), metrics=[CLICKS]), max_decision_age=timedelta(seconds=30)
    )
    record = running(experiment)
    bench = Bench(record, epoch_with(record, SHARES))
    previous = ask(bench, "user-1")
    bench.clock.advance(30)
    assert_pinned(bench, previous, "user-1")
    bench.clock.advance(0.001)
    assert_fresh(bench, previous.decision_id, "user-1")


def test_a_pin_to_an_arm_out_of_service_does_not_hold(bench: Bench) -> None:
    """Once its arm is taken out, dropped or not eligible, a decision is no longer handed out."""
    previous = ask(bench, "user-1", ("b",))
    assert_fresh(bench, previous.decision_id, "user-1", ("a", "c"))
    record, epoch = bench.experiment.record, bench.experiment.epoch
    for arms in ([Arm(id="a"), Arm(id="b", is_taken_out=True)], [Arm(id="a"), Arm(id="c")]):
        changed = replace(record.declaring(declare(arms=arms)), revision=record.revision + 1)
        later = Bench(
            changed, replace(epoch_with(changed, {arm.id: 0.0 for arm in arms} | {"a": 1.0}), number=2)
        )
        assert_fresh(later, previous.decision_id, "user-1")
    assert epoch.number == 1


@pytest.mark.parametrize("state", [State.PAUSED, State.CONCLUDED])
def test_a_pin_does_not_hold_against_a_stop(bench: Bench, state: State) -> None:
    """Once an experiment is paused or concluded, its one answer goes to everyone."""
    previous = ask(bench, "user-1", ("b",))
    bench.put(replace(bench.experiment.record, state=state, revision=3, winner="a"), bench.experiment.epoch)
    choice = ask(bench, "user-1", (), previous.decision_id)
    assert (choice.offer.arm.id, basis_of(choice)) == ("a", Basis.FALLBACK)


def test_a_fallback_is_not_pinned(bench: Bench) -> None:
    """An answer that was not drawn does not hold once one can be drawn."""
    bench.clock.advance(MAX_STALENESS + 1)
    previous = ask(bench)
    assert previous.offer.reason is Reason.STALE
    bench.put(bench.experiment.record, bench.experiment.epoch)
    assert_fresh(bench, previous.decision_id, "")


def test_many_different_restrictions_stay_bounded(bench: Bench) -> None:
    """An experiment keeps a bounded number of compiled restrictions, and answers correctly beyond it."""
    experiment = bench.experiment
    for number in range(1000):
        assert ask(bench, "user-1", ("b", f"x-{number}")).offer.arm.id == "b"
    assert len(experiment._sets) < 300
