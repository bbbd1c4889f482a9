"""Launches in any order of moves: what holds after each of them."""

from collections.abc import Callable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bandit.experiment import Arm, Experiment
from bandit.launch.launching import Launching, MoveRefusedError, Occasion
from bandit.launch.moves import (
    admitted,
    advanced,
    approved,
    begun,
    ended,
    held,
    holdback_ended,
    promoted,
    redeclared,
    restarted,
    resumed,
    rolled_back,
)
from bandit.launch.plan import Holdback, LaunchPlan, Stage, StageKind
from bandit.launch.shares import demand_of, launch_shares, reserve_of
from bandit.launch.state import CHAMPION, ENDED, IN_SERVICE, ON_ITS_WAY, ArmLaunch, ArmState
from bandit.limits import Limits
from tests.bandit.launch.launches import BANDIT, CANARY, PLAN, declare_launch, occasion

ROUNDING = 1e-9
PLANS = (
    PLAN,
    replace(PLAN, holdback=None),
    replace(
        PLAN, stages=(Stage(kind=StageKind.RAMP, shares=(0.2, 0.4)), BANDIT), holdback=Holdback(share=0.3)
    ),
    replace(PLAN, stages=(CANARY, replace(BANDIT, approval=True))),
    replace(PLAN, stages=(BANDIT,)),
)
LIMITS = (
    Limits(),
    Limits(champion_minimum_share=0.3, minimum_share=0.1),
    Limits(champion_minimum_share=0.1, minimum_shares={"a": 0.4}, maximum_share=0.5),
)
MOVED_WITH_OTHERS = frozenset({ArmState.HOLDBACK, ArmState.REPLACED, ArmState.SUCCEEDED, ArmState.PROMOTED})

picks = st.integers(0, 11)
raw = st.lists(st.floats(0, 1), min_size=12, max_size=12)


class Walk(RuleBasedStateMachine):
    """Makes moves of any arm at any time; a refused move must change nothing and name its arm."""

    def __init__(self) -> None:
        super().__init__()
        self.hours = 0
        self.taken_back: set[str] = set()

    @initialize(
        plan=st.sampled_from(PLANS),
        limits=st.sampled_from(LIMITS),
        n_arms=st.integers(2, 5),
        is_started=st.booleans(),
    )
    def begin(self, plan: LaunchPlan, limits: Limits, n_arms: int, *, is_started: bool) -> None:
        """Begin a launch, of a new experiment or of a running one."""
        arms = [f"a{number}" if number else "a" for number in range(n_arms)]
        experiment = replace(declare_launch(arms, limits=limits), launch=plan)
        try:
            self.launching = begun(experiment, self.next(), is_started=is_started)
        except MoveRefusedError:
            self.launching = begun(experiment, self.next(), is_started=False)
        self.made = n_arms

    def next(self) -> Occasion:
        """Return the next occasion."""
        self.hours += 1
        return occasion(self.hours, reason=str(self.hours))

    def arm(self, pick: int) -> str:
        """Return one of the arms that ever were."""
        arms = sorted({*self.launching.launch.arms, *(arm.id for arm in self.launching.experiment.arms)})
        return arms[pick % len(arms)]

    def attempt(self, arm: str, move: Callable[[], Launching]) -> bool:
        """Make a move of an arm; return whether it was made. A refusal names the arm and changes nothing."""
        try:
            after = move()
        except MoveRefusedError as error:
            named = error.arm
        else:
            self.make(arm, after)
            return True
        assert named == arm
        return False

    def make(self, arm: str, after: Launching) -> None:
        """Take the result of a move of one arm: it is about that arm, and the two roles that may swap."""
        before, self.launching = self.launching, after
        roles = {before.experiment.champion, after.experiment.champion, before.launch.former_champion}
        for other, launch in after.launch.arms.items():
            old = before.launch.arms.get(other)
            if other != arm:
                assert launch == old or (other in roles and launch.state in MOVED_WITH_OTHERS), (
                    other,
                    launch,
                )
            if launch != old:
                self.check_visit(old, launch)
        assert before.launch.arms.keys() <= after.launch.arms.keys()
        assert replace(after.experiment, champion=before.experiment.champion) == before.experiment

    def check_visit(self, old: ArmLaunch | None, new: ArmLaunch) -> None:
        """Check that a visit that began has the next number, its time and its reason; others kept theirs."""
        entry = 0 if old is None else old.entry
        if old is not None and (old.state, old.step) == (new.state, new.step) and old.entry == new.entry:
            assert (old.entered_at, old.revision, old.reason) == (new.entered_at, new.revision, new.reason)
            return
        # A promotion without a holdback passes through two states at once.
        assert new.entry - entry in {1, 2}
        assert new.entry - entry == 1 or new.state in {ArmState.SUCCEEDED, ArmState.REPLACED}
        assert (new.entered_at, new.reason) == (occasion(self.hours).at, str(self.hours))
        assert (new.hold, new.is_approved) == (None, False)

    @rule()
    def admit(self) -> None:
        """Let those who wait enter: everyone else stays where they are."""
        before, self.launching = self.launching, admitted(self.launching, self.next())
        for arm, launch in self.launching.launch.arms.items():
            old = before.launch.arms[arm]
            assert launch == old or (old.state, old.hold, launch.step) == (ArmState.WAITING, None, 0)

    @rule(pick=picks)
    def advance(self, pick: int) -> None:
        """Take a step."""
        arm, when = self.arm(pick), self.next()
        if self.attempt(arm, lambda: advanced(self.launching, arm, when)):
            assert self.launching.arm(arm).state in ON_ITS_WAY

    @rule(pick=picks)
    def advance_to_the_end(self, pick: int) -> None:
        """Take as many steps as the rules allow."""
        for _ in range(4):
            self.approve(pick)
            self.advance(pick)

    @rule(pick=picks)
    def advance_and_promote(self, pick: int) -> None:
        """Take as many steps as the rules allow, and the last one to champion."""
        self.advance_to_the_end(pick)
        self.approve(pick)
        self.promote(pick)

    @rule()
    def roll_back_the_champion(self) -> None:
        """Take the last promotion back, if its holdback is not over."""
        arms = sorted({*self.launching.launch.arms, *(arm.id for arm in self.launching.experiment.arms)})
        self.roll_back(arms.index(self.launching.experiment.champion))

    @rule(pick=picks)
    def approve(self, pick: int) -> None:
        """Approve a step."""
        arm = self.arm(pick)
        self.attempt(arm, lambda: approved(self.launching, arm))

    @rule(pick=picks, is_held=st.booleans())
    def hold(self, pick: int, *, is_held: bool) -> None:
        """Hold an arm, or end its hold."""
        arm, when = self.arm(pick), self.next()
        if is_held:
            self.attempt(arm, lambda: held(self.launching, arm, when))
        else:
            self.attempt(arm, lambda: resumed(self.launching, arm))

    @rule(pick=picks)
    def roll_back(self, pick: int) -> None:
        """Roll back: whoever is not at its end and is no champion for good ends with nothing."""
        arm, when, before = self.arm(pick), self.next(), self.launching
        known = before.launch.arms.get(arm)
        try:
            after = rolled_back(before, arm, when)
        except MoveRefusedError:
            assert known is None or known.state not in ON_ITS_WAY | {ArmState.WAITING, ArmState.PROMOTED}
            return
        self.make(arm, after)
        assert after.arm(arm).state is ArmState.ROLLED_BACK
        assert after.experiment.champion != arm
        self.taken_back.add(arm)

    @rule(pick=picks)
    def promote(self, pick: int) -> None:
        """Promote: the arm is champion."""
        arm, when = self.arm(pick), self.next()
        before = self.launching
        if self.attempt(arm, lambda: promoted(before, arm, when)):
            assert before.arm(arm).state is ArmState.BANDIT
            assert self.launching.experiment.champion == arm
            assert self.launching.arm(arm).state in CHAMPION

    @rule()
    def end_holdback(self) -> None:
        """End the holdback, if there is one."""
        former, when = self.launching.launch.former_champion, self.next()
        if former is not None:
            self.make(former, holdback_ended(self.launching, when))
            assert self.launching.arm(former).state is ArmState.REPLACED

    @rule(pick=picks, outcome=st.sampled_from([ArmState.RETIRED, ArmState.INCONCLUSIVE]))
    def end(self, pick: int, outcome: ArmState) -> None:
        """End a launch without a finding."""
        arm, when = self.arm(pick), self.next()
        self.attempt(arm, lambda: ended(self.launching, arm, outcome, when))

    @rule(pick=picks)
    def restart(self, pick: int) -> None:
        """Begin again after the end."""
        arm, when = self.arm(pick), self.next()
        if self.attempt(arm, lambda: restarted(self.launching, arm, when)):
            self.taken_back.discard(arm)

    @rule()
    def add_an_arm(self) -> None:
        """Declare one more arm: it waits, and nothing else changes."""
        arms = self.launching.experiment.arms
        if len(arms) < 7:
            name, before = f"a{self.made}", self.launching
            self.made += 1
            self.redeclare((*arms, Arm(id=name)))
            assert self.launching.arm(name).state is ArmState.WAITING
            assert {**self.launching.launch.arms} == {**before.launch.arms, name: self.launching.arm(name)}

    @rule(pick=picks)
    def remove_an_arm(self, pick: int) -> None:
        """Remove an arm that is not the champion: only a launch under way is withdrawn."""
        arm, before = self.arm(pick), self.launching
        if arm == before.experiment.champion or arm not in {each.id for each in before.experiment.arms}:
            return
        known = before.launch.arms[arm].state
        self.redeclare(tuple(each for each in before.experiment.arms if each.id != arm))
        expected = {ArmState.HOLDBACK: ArmState.REPLACED, **{state: state for state in ENDED}}
        assert self.launching.arm(arm).state is expected.get(known, ArmState.WITHDRAWN)

    @rule(pick=picks, is_out=st.booleans())
    def take_out(self, pick: int, *, is_out: bool) -> None:
        """Take an arm out of service, or no longer."""
        arm, before = self.arm(pick), self.launching
        arms = tuple(
            replace(each, is_taken_out=is_out) if each.id == arm else each for each in before.experiment.arms
        )
        try:
            self.redeclare(arms)
        except MoveRefusedError:
            assert arm == before.experiment.champion
            return
        if is_out and arm in {each.id for each in arms}:
            assert self.launching.arm(arm).state in ENDED
            if before.arm(arm).state in ON_ITS_WAY | {ArmState.WAITING} | CHAMPION:
                self.taken_back.add(arm)

    @rule(plan=st.sampled_from(PLANS))
    def change_the_plan(self, plan: LaunchPlan) -> None:
        """Declare another plan: no arm moves by it."""
        before = self.launching
        self.redeclare(before.experiment.arms, plan)
        assert self.launching.launch == before.launch

    def redeclare(self, arms: tuple[Arm, ...], plan: LaunchPlan | None = None) -> None:
        """Declare arms, and another plan if it is given."""
        experiment = self.launching.experiment
        declared: Experiment = replace(experiment, arms=arms, launch=plan or experiment.launch)
        self.launching = redeclared(self.launching, declared, self.next())

    @invariant()
    def roles_are_clear(self) -> None:
        """One champion; a holdback exists exactly while the champion is only promoted."""
        launch, champion = self.launching.launch, self.launching.experiment.champion
        found = {state: launch.in_state(state) for state in ArmState}
        assert found[ArmState.PROMOTED] in {(), (champion,)}
        assert found[ArmState.SUCCEEDED] in {(), (champion,)}
        former = () if launch.former_champion is None else (launch.former_champion,)
        assert found[ArmState.HOLDBACK] == former
        assert bool(found[ArmState.PROMOTED]) == bool(former) == (launch.holdback is not None)
        assert champion in {arm.id for arm in self.launching.experiment.arms}
        assert launch.is_in_service(champion)

    @invariant()
    def rolled_back_is_never_mixed_up(self) -> None:
        """An arm is rolled back exactly if someone took it back and nobody restarted it since."""
        assert set(self.launching.launch.in_state(ArmState.ROLLED_BACK)) == self.taken_back

    @invariant()
    def the_demand_fits(self) -> None:
        """No move asks for more than there is, except that a rollback passes over everything."""
        demand = demand_of(self.launching.experiment, self.launching.launch)
        own_floor = self.launching.experiment.limits.minimum_shares.get("a", 0.0)
        assert demand.has_room or (self.taken_back and own_floor)

    @rule(raw=raw)
    def serve(self, raw: list[float]) -> None:
        """Shares sum to 1, fixed ones are exact, arms out of service have 0, the champion its reserve."""
        experiment, launch = self.launching.experiment, self.launching.launch
        ids = [arm.id for arm in experiment.arms]
        shares = dict(zip(ids, launch_shares(raw[: len(ids)], ids, experiment, launch).tolist(), strict=True))
        demand = demand_of(experiment, launch)
        assert abs(sum(shares.values()) - 1) <= ROUNDING
        for arm, share in shares.items():
            known = launch.arms.get(arm)
            if arm != experiment.champion and (known is None or known.state not in IN_SERVICE):
                assert share == 0
            if arm in demand.fixed:
                assert abs(share - demand.fixed[arm]) <= ROUNDING
        if demand.has_room:
            assert (
                shares[experiment.champion] >= reserve_of(experiment.limits, experiment.champion) - ROUNDING
            )


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
