"""The whole service against a plain model in memory, on both databases, over any history.

A history creates, ramps, starts, pauses, concludes and deletes experiments, asks, rewards, replays and
revises, lets time pass, sets the clock forward and back, polls or does not, and restarts replicas with and
without warning. On PostgreSQL two replicas are asked in turns.
"""

from collections import Counter
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bandit.decision_id import Basis
from bandit.limits import Limits
from server.services import errors
from server.services.reward.ledger import PostedReward
from server.services.snapshot.offers import Reason
from server.store.records import (
    Conflicting,
    Expired,
    OutcomeEntry,
    Recorded,
    RewardEntry,
    State,
)
from tests.services.support import LAG, MAX_STALENESS, ManualClock
from tests.services.whole.model import (
    ARMS,
    CHAMPION,
    LONGEST,
    METRICS,
    WINDOW,
    KnownDecision,
    KnownExperiment,
    Posted,
)
from tests.services.whole.service import WholeService
from tests.store.builders import facts_of
from tests.store.ledger_model import LedgerModel
from tests.support.ledger import decision_of

_names = count(1)

# Small ranges of values, so that the steps of a history overlap.
outcomes = st.dictionaries(st.sampled_from(["clicks", "spend"]), st.sampled_from([0.0, 1.0]), min_size=1)
units = st.sampled_from(["", "", "u1", "u2", "u3"])
steps = st.sampled_from([0.5, 2.0, LAG + 2, WINDOW.total_seconds() + 5, MAX_STALENESS + 5, 3_700.0])
jumps = st.sampled_from([timedelta(hours=1), -timedelta(days=1), timedelta(seconds=-7), timedelta(days=1)])
replicas = st.integers(0, 1)


class History(RuleBasedStateMachine):
    """One history, as the module describes."""

    experiments: Bundle[KnownExperiment] = Bundle("experiments")
    decisions: Bundle[KnownDecision] = Bundle("decisions")
    rewards: Bundle[Posted] = Bundle("rewards")

    def __init__(self, url: str, n_replicas: int) -> None:
        super().__init__()
        self.url = url
        self.clock = ManualClock()
        self.services = [WholeService(url, self.clock) for _ in range(n_replicas)]
        self.ages = [0.0] * n_replicas
        self.unflushed: list[Counter[tuple[str, int, Basis]]] = [Counter() for _ in range(n_replicas)]
        self.known: dict[str, KnownExperiment] = {}
        self.ledger = LedgerModel()

    def teardown(self) -> None:
        """Check that the ledger is exact, and leave nothing running for the next history."""
        try:
            for replica in range(len(self.services)):
                self.flush(replica)
            self.check_facts()
            facts_of(self.services[0].store)
        finally:
            for known in self.known.values():
                if known.state is State.RUNNING:
                    self.services[0].run(self.services[0].experiments.pause(known.name, None))
            for service in self.services:
                service.stop()

    def poll(self) -> None:
        """Let every replica take in what changed."""
        for number, service in enumerate(self.services):
            service.refresh()
            self.ages[number] = 0.0

    def flush(self, replica: int) -> None:
        """Flush one replica's counts to the facts."""
        self.services[replica].flush()
        for (name, arm, basis), n in self.unflushed[replica].items():
            self.known[name].counted[arm, basis] += n
        self.unflushed[replica].clear()

    @rule(target=experiments)
    def create(self) -> KnownExperiment:
        """Create a draft."""
        known = KnownExperiment(f"x-{next(_names)}", 0)
        live = self.services[0].run(self.services[0].experiments.create(known.declared))
        known.number = live.record.number
        self.known[known.name] = known
        self.poll()
        return known

    @rule(experiment=experiments, replica=replicas)
    def start(self, experiment: KnownExperiment, replica: int) -> None:
        """Start: shares decide; refused once it is concluded."""
        is_allowed = experiment.state is not State.CONCLUDED
        self.change(experiment, replica, "start", None, is_allowed=is_allowed, after=State.RUNNING)

    @rule(experiment=experiments, replica=replicas)
    def pause(self, experiment: KnownExperiment, replica: int) -> None:
        """Pause: the champion answers."""
        is_allowed = experiment.state in {State.RUNNING, State.PAUSED}
        self.change(experiment, replica, "pause", None, is_allowed=is_allowed, after=State.PAUSED)

    @rule(experiment=experiments, replica=replicas, winner=st.sampled_from(ARMS))
    def conclude(self, experiment: KnownExperiment, replica: int, winner: str) -> None:
        """Conclude: the winner answers, and is never changed."""
        is_allowed = experiment.state in {State.RUNNING, State.PAUSED} or (
            experiment.state is State.CONCLUDED and experiment.winner == winner
        )
        self.change(
            experiment, replica, "conclude", winner, None, is_allowed=is_allowed, after=State.CONCLUDED
        )
        if is_allowed:
            experiment.winner = winner

    @rule(experiment=experiments, replica=replicas)
    def delete(self, experiment: KnownExperiment, replica: int) -> None:
        """Delete, and with it the way to its rewards; refused while it runs."""
        is_allowed = experiment.state is not State.RUNNING
        self.change(experiment, replica, "delete", None, is_allowed=is_allowed, after=None)

    @rule(
        experiment=experiments,
        replica=replicas,
        floor=st.sampled_from([0.0, 0.1]),
        reserve=st.sampled_from([0.0, 0.2, 0.5]),
        is_c_out=st.booleans(),
    )
    def ramp(
        self, experiment: KnownExperiment, replica: int, floor: float, reserve: float, *, is_c_out: bool
    ) -> None:
        """Set other limits, and take an arm out or put it back."""
        is_allowed = experiment.state not in {State.CONCLUDED, None}
        if is_allowed:
            experiment.limits = Limits(minimum_share=floor, minimum_shares={CHAMPION: reserve})
            experiment.is_c_out = is_c_out
        declared = experiment.declared
        self.change(
            experiment,
            replica,
            "update",
            lambda _: declared,
            None,
            is_allowed=is_allowed,
            after=experiment.state,
        )

    def change(
        self,
        experiment: KnownExperiment,
        replica: int,
        verb: str,
        *arguments: object,
        is_allowed: bool,
        after: State | None,
    ) -> None:
        """Call a verb: NOT_FOUND once deleted, refused where the model refuses, done otherwise."""
        service = self.services[replica % len(self.services)]
        call = getattr(service.experiments, verb)
        if experiment.state is None:
            with pytest.raises(errors.ExperimentNotFoundError):
                service.run(call(experiment.name, *arguments))
        elif not is_allowed:
            with pytest.raises(errors.TransitionRefusedError):
                service.run(call(experiment.name, *arguments))
        else:
            service.run(call(experiment.name, *arguments))
            experiment.state = after
        self.poll()

    @rule(target=decisions, experiment=experiments, replica=replicas, unit=units, n=st.integers(1, 4))
    def choose(
        self, experiment: KnownExperiment, replica: int, unit: str, n: int
    ) -> MultipleResults[KnownDecision]:
        """Ask a few times: arm and reason are the model's, and the propensity is the epoch's."""
        replica %= len(self.services)
        found = self.services[replica].find(experiment.name)
        if experiment.state in {State.DRAFT, None}:
            assert found is None
            return multiple()
        assert found is not None
        return multiple(*(self.choose_once(experiment, replica, unit) for _ in range(n)))

    def choose_once(self, experiment: KnownExperiment, replica: int, unit: str) -> KnownDecision:
        """Make one decision."""
        found = self.services[replica].find(experiment.name)
        assert found is not None
        offer, decision_id, _ = self.services[replica].choose(found, unit)
        basis, reason, certain = self.expected_answer(experiment, self.ages[replica])
        assert (offer.key.basis, offer.reason) == (basis, reason)
        if certain is not None:
            assert offer.arm.id == certain
        else:
            assert not (offer.arm.id == "c" and experiment.is_c_out)
            assert offer.terms.propensity >= experiment.floor_of(offer.arm.id) - 1e-12
            if unit:
                kept = experiment.arms.setdefault((offer.key.epoch, unit), offer.arm.id)
                assert offer.arm.id == kept, "a unit changed its arm within an epoch"
        self.unflushed[replica][experiment.name, offer.key.arm, basis] += 1
        return KnownDecision(
            decision_id, experiment, offer.key.epoch, offer.key.arm, basis, self.clock.time_ms()
        )

    def expected_answer(self, experiment: KnownExperiment, age: float) -> tuple[Basis, Reason, str | None]:
        """Return basis, reason, and the arm where it is certain."""
        if experiment.state is State.PAUSED:
            return Basis.FALLBACK, Reason.PAUSED, CHAMPION
        if experiment.state is State.CONCLUDED:
            return Basis.FALLBACK, Reason.CONCLUDED, experiment.winner
        if age > MAX_STALENESS:
            return Basis.FALLBACK, Reason.STALE, CHAMPION
        return Basis.POLICY if age <= LAG else Basis.UNCONFIRMED, Reason.POLICY, None

    @rule(target=rewards, decision=decisions, values=outcomes, revision=st.integers(0, 2), replica=replicas)
    def reward(
        self, decision: KnownDecision, values: dict[str, float], revision: int, replica: int
    ) -> Posted:
        """Post an outcome of a decision to any replica."""
        posted = Posted(decision, values, revision)
        self.post(posted, replica)
        return posted

    @rule(posted=rewards, replica=replicas)
    def replay(self, posted: Posted, replica: int) -> None:
        """Post the same again to any replica."""
        self.post(posted, replica)

    def post(self, posted: Posted, replica: int) -> None:
        """Post, and compare with the model."""
        service = self.services[replica % len(self.services)]
        report = PostedReward(posted.decision.id, posted.outcomes, posted.revision)
        expected = self.expected_result(posted)
        answer = service.reward(report)
        if isinstance(expected, type):
            assert isinstance(answer, expected), (answer, expected)
        else:
            assert answer == expected
        self.poll()

    def expected_result(self, posted: Posted) -> object:
        """Return the model's result: metric to result, or the kind of error."""
        decision = posted.decision
        if decision.experiment.state is None:
            return errors.ExperimentNotFoundError
        age_ms = self.clock.time_ms() - decision.decided_ms
        entries = sorted(
            OutcomeEntry(
                METRICS[name][0],
                METRICS[name][1].quantise(value),
                name == "clicks" and age_ms > WINDOW.total_seconds() * 1000,
            )
            for name, value in posted.outcomes.items()
        )
        verdict = self.ledger.record(
            RewardEntry(
                decision=decision_of(decision.id),
                experiment=decision.experiment.number,
                epoch=decision.epoch,
                segment=0,
                arm=decision.arm,
                basis=decision.basis,
                outcomes=tuple(entries),
                revision=posted.revision,
                received_ms=0,
                is_expired=age_ms > LONGEST.total_seconds() * 1000,
            )
        )
        match verdict:
            case Recorded(results):
                names = [name for name in METRICS if name in posted.outcomes]
                return dict(zip(names, results, strict=True))
            case Conflicting():
                return errors.OutcomeConflictError
            case Expired():
                return errors.DecisionExpiredError
        raise AssertionError(verdict)

    @rule(seconds=steps, is_polled=st.booleans())
    def wait(self, seconds: float, *, is_polled: bool) -> None:
        """Let time pass, with or without word from the database."""
        self.clock.advance(seconds)
        self.ages = [age + seconds for age in self.ages]
        if is_polled:
            self.poll()

    @rule(by=jumps)
    def set_clock(self, by: timedelta) -> None:
        """Set the wall clock: no replica becomes staler because of it."""
        self.clock.jump(by)

    @rule(replica=replicas)
    def allocate(self, replica: int) -> None:
        """Flush a replica and begin epochs where shares have moved."""
        replica %= len(self.services)
        self.flush(replica)
        self.services[replica].allocate()
        self.poll()

    @rule(replica=replicas, is_clean=st.booleans())
    def restart(self, replica: int, *, is_clean: bool) -> None:
        """End a replica, with or without a chance to flush its counts, and start another in its place."""
        replica %= len(self.services)
        if is_clean:
            self.flush(replica)
            self.services[replica].stop()
        else:
            self.services[replica].die()
            self.unflushed[replica].clear()
        self.services[replica] = WholeService(self.url, self.clock)
        self.poll()

    @precondition(lambda self: bool(self.known))
    @invariant()
    def check_facts(self) -> None:
        """Check that facts, states and epochs in the database are the model's."""
        expected_facts = self.ledger.facts()
        for known in self.known.values():
            found = self.services[0].store.read_facts(known.number)
            if known.state is None:
                assert found is None
                continue
            assert found is not None
            assert (found.record.state, found.record.winner) == (known.state, known.winner)
            sums = {key: tally for key, tally in found.facts.outcomes.items() if any(tally)}
            assert sums == {
                key: tally for key, tally in expected_facts.items() if key.experiment == known.number
            }
            counted: Counter[tuple[int, Basis]] = Counter()
            for key, n in found.facts.decisions.items():
                counted[key.arm, key.basis] += n
            assert counted == known.counted
            assert [epoch.number for epoch in found.epochs] == list(range(1, len(found.epochs) + 1))
            assert len(found.epochs) >= known.n_epochs
            known.n_epochs = len(found.epochs)
            if known.state is State.RUNNING:
                for number, arm in enumerate(ARMS):
                    assert found.epochs[-1].shares.get(number, 0.0) >= known.floor_of(arm) - 1e-12
                assert abs(sum(found.epochs[-1].shares.values()) - 1) < 1e-9


def test_the_service_is_the_model(url: str) -> None:
    """Whatever happens in whatever order, the service answers and keeps what the model does."""
    n_replicas = 2 if url.startswith("postgresql") else 1
    run_state_machine_as_test(
        lambda: History(url, n_replicas),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=6,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate],  # finding a shorter history takes minutes
        ),
    )


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'whole.db'}"
    url = request.getfixturevalue("postgresql").create_database()
    assert isinstance(url, str)
    return url
