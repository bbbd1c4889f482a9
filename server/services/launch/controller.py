"""The controller: looks at launches, and does what their plans say.

One server of several acts, under a lease whose token is checked in the transaction of every action. Each look
reads one snapshot, rules by the report's own function, and makes at most one change. A change is conditional
on the revision that was looked at, except an abort, which is repeated until it is applied.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from bandit.experiment import JsonValue
from bandit.launch import moves
from bandit.launch.gates import Look
from bandit.launch.launching import Launching, MoveRefusedError, Occasion
from bandit.launch.plan import StageKind
from bandit.launch.rulings import Action, Ruling, rule
from bandit.launch.state import ON_ITS_WAY, ArmLaunch, ArmState
from server.services.errors import (
    ExperimentChangedError,
    LaunchRefusedError,
    NoLaunchError,
    ServiceError,
    StorageUnavailableError,
)
from server.services.experiments import launching
from server.services.experiments.launching import MoveTerms
from server.services.experiments.lifecycle import Experiments
from server.services.launch.verbs import ABORT_ATTEMPTS
from server.services.reports.launch.look import look_at
from server.services.reports.launch.sentences import CONTROLLER, gate_sentence, hold_sentence, reason_for
from server.services.reports.launch.silence import last_heard, silence_of
from server.services.reports.launch.view import view_of
from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.clock import Clock
from server.services.snapshot.snapshot import Snapshot
from server.store.contract import Store
from server.store.errors import LeaseLostError, StoreError
from server.store.records import (
    EventKind,
    ExperimentRecord,
    Lease,
    LiveExperiment,
    NewEvent,
    ReportFacts,
    State,
    StoredLook,
)

_MOST_TICKS: Final = 3
"""The most ticks of time that one look adds: an outage or a jump of the clock adds no more."""

_REST: Final = 4.0
"""A look that took t seconds, as over a million units, is not repeated for this many times t."""

_QUIET_PART: Final = 100
"""Traffic without a decision for longer than this part of a cycle counts as none."""

_REACHED: Final = 1e-9

log = structlog.get_logger()


@dataclass(slots=True)
class _Watch:
    """What the controller remembers of an experiment between looks.

    Attributes:
        looked_at: The monotonic time of the last look at its gates.
        n_decisions: Its policy decisions then.
        decided_at: The monotonic time at which they last had grown.
    """

    looked_at: float
    n_decisions: int
    decided_at: float


class LaunchController:
    """Looks at launches, and acts for them. Belongs to the event loop's thread.

    Args:
        store: Has the experiments and facts.
        snapshot: Knows which experiments have a launch.
        experiments: Makes the changes.
        clock: The time.
        held: Returns the lease if this server may act now.
        lag: How long a replica may go on with an epoch after its end.
        gate_seconds: How often gates are looked at; between, only guardrails are.

    Attributes:
        n_actions: How many changes it made.
        looks: Number of the experiment to the last look at its launch; empty without the lease.
    """

    def __init__(
        self,
        store: AsyncStore,
        snapshot: Snapshot,
        experiments: Experiments,
        clock: Clock,
        held: Callable[[], Lease | None],
        *,
        lag: timedelta,
        gate_seconds: float,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._experiments = experiments
        self._clock = clock
        self._held = held
        self._lag = lag
        self._gate_seconds = gate_seconds
        self._watches: dict[int, _Watch] = {}
        self._rests_until: dict[int, float] = {}
        self.n_actions = 0
        self.looks: dict[int, Look] = {}

    async def run_once(self) -> None:
        """Look at every launch: at its guardrails, and if it is time at its gates. To be repeated.

        Does nothing on a server that does not hold the lease, or while its clock is in doubt.

        Raises:
            StoreError: The store is away; the next run goes on.
        """
        if self._held() is None:
            self._watches.clear()  # another server counts the time now
            self.looks.clear()
            return
        if self._clock.is_doubted:
            return
        launched = [live for live in self._snapshot if _is_to_be_watched(live)]
        for number in self._watches.keys() - {live.record.number for live in launched}:
            del self._watches[number]
            self.looks.pop(number, None)
            self._rests_until.pop(number, None)
        for live in launched:
            if self._held() is not None and self._clock.monotonic() >= self._rests_until.get(
                live.record.number, -math.inf
            ):
                await self._look_safely(live.record)

    async def _look_safely(self, record: ExperimentRecord) -> None:
        """Look at one launch; only a store that is away, which concerns all of them, is an error."""
        try:
            await self._look(record)
        except (LeaseLostError, ExperimentChangedError, LaunchRefusedError, NoLaunchError):
            pass  # somebody was quicker; the next look sees it
        except (StoreError, StorageUnavailableError):
            raise
        except ServiceError as error:
            log.warning("launch.not_acted", experiment=record.name, error=str(error))
        except Exception:
            log.exception("launch.failed", experiment=record.name)

    async def _look(self, record: ExperimentRecord) -> None:
        fence, began_at = self._held(), self._clock.monotonic()
        now = self._clock.now()
        known = await self._store.read_report(record.name, self._lag, now)
        if fence is None or known is None or known.found.record.launch is None:
            return
        tick = self._tick(known)
        if tick is not None:
            tick = timedelta() if silence_of(known, now) is not None else tick
            known = replace(known, looks=_with_time(known, tick, now))
        looked = partial(_look_at, looks_ahead=tick is not None)
        look = await self._store.run(Thread.REPORT, looked, known, self._lag, now)
        ended_at = self._clock.monotonic()
        self._rests_until[record.number] = ended_at + _REST * (ended_at - began_at)
        if look is None:
            return
        self.looks[record.number] = look
        rulings = rule(look)
        if tick is None:
            rulings = tuple(each for each in rulings if each.is_abort)
        else:
            kept, noted = _kept(known, look), _noted(known, look)
            await self._store.keep_looks(known.found.record, kept, noted, at=now, fence=fence)
        if rulings:
            await self._act(known.found.record, look, rulings, fence)

    def _tick(self, known: ReportFacts) -> timedelta | None:
        """Return the time since the last look at the gates that counts; None if it is not time for one."""
        number, now = known.found.record.number, self._clock.monotonic()
        n_decisions = int(known.found.facts.decision_columns.counts.sum())
        watch = self._watches.get(number)
        if watch is None:
            self._watches[number] = _Watch(now, n_decisions, now)
            return timedelta()
        if n_decisions > watch.n_decisions:
            watch.n_decisions, watch.decided_at = n_decisions, now
        elapsed = now - watch.looked_at
        if elapsed < self._gate_seconds:
            return None
        watch.looked_at = now
        cycle = launching.launching_of(known.found.record).plan.cycle
        quiet = max(_MOST_TICKS * self._gate_seconds, cycle.total_seconds() / _QUIET_PART)
        if known.found.record.state is not State.RUNNING or now - watch.decided_at > quiet:
            return timedelta()
        return timedelta(seconds=min(elapsed, _MOST_TICKS * self._gate_seconds))

    async def _act(
        self, record: ExperimentRecord, look: Look, rulings: tuple[Ruling, ...], fence: Lease
    ) -> None:
        is_abort = rulings[0].is_abort
        figures: Mapping[str, Mapping[str, JsonValue]] = {each.arm: dict(each.figures) for each in rulings}
        await self._experiments.move(
            record.name,
            partial(self._changed, look, rulings),
            event=rulings[0].action,
            caller=CONTROLLER,
            revision=None if is_abort else record.revision,
            attempts=ABORT_ATTEMPTS if is_abort else 1,
            terms=MoveTerms(figures=figures, fence=fence),
        )
        self.n_actions += 1
        for each in rulings:
            log.info(
                "launch.acted",
                experiment=record.name,
                action=each.action,
                arm=each.arm,
                reason=reason_for(each, look),
            )

    def _changed(self, look: Look, rulings: tuple[Ruling, ...], record: ExperimentRecord) -> ExperimentRecord:
        now = self._clock.now()

        def move(at: Launching, occasion: Occasion) -> Launching:
            for each in rulings:
                because = replace(occasion, reason=reason_for(each, look))
                try:
                    at = each.applied(at, because)
                except MoveRefusedError:
                    if not each.is_abort:
                        raise  # an abort of an arm that is out already changes nothing
            return at

        after = launching.moved(record, move, launching.occasion_for(record, now, CONTROLLER))
        if rulings[0].action is Action.END_HOLDBACK and moves.concludes(launching.launching_of(after)):
            winner = after.experiment.champion
            ended = launching.concluded(after, winner, launching.occasion_for(record, now, CONTROLLER))
            return replace(ended, state=State.CONCLUDED, winner=winner, concluded_at=now)
        return after


def _is_to_be_watched(live: LiveExperiment) -> bool:
    record = live.record
    if record.launch is None or record.unknown or record.state not in {State.RUNNING, State.PAUSED}:
        return False
    going = ON_ITS_WAY | {ArmState.WAITING, ArmState.PROMOTED}
    return any(arm.state in going for arm in record.launch.arms.values())


def _look_at(
    _: Store, known: ReportFacts, lag: timedelta, now: datetime, *, looks_ahead: bool
) -> Look | None:
    return look_at(known, lag, now, looks_ahead=looks_ahead)


def _with_time(known: ReportFacts, tick: timedelta, now: datetime) -> dict[int, StoredLook]:
    """Return the stored looks with the time since, for arms that have their full share."""
    record = known.found.record
    at = launching.launching_of(record)
    cycle = at.plan.cycle
    shares = known.found.epochs[-1].shares if known.found.epochs else {}
    looks = dict(known.looks)
    for arm_id, arm in at.launch.arms.items():
        number = record.arm_numbers[arm_id]
        if arm.state not in ON_ITS_WAY | {ArmState.PROMOTED}:
            continue
        stored = looks.get(number)
        if stored is None or stored.entry != arm.entry:
            stored = StoredLook(at=now, entry=arm.entry)
        if _has_full_share(arm, shares.get(number, 0.0)):
            index = max((now - tick - arm.entered_at) // cycle, 0)  # the cycle in which the time began
            covered = {**stored.covered, index: stored.covered.get(index, timedelta()) + tick}
            stored = replace(stored, covered=covered)
        looks[number] = stored
    return looks


def _has_full_share(arm: ArmLaunch, share: float) -> bool:
    step = arm.current
    if step is None or step.stage.kind is StageKind.BANDIT or step.share is None:
        return True
    return share >= step.share - _REACHED


def _kept(known: ReportFacts, look: Look) -> dict[int, StoredLook]:
    """Return the look at each arm, to be kept."""
    record = known.found.record
    heard = last_heard(known, look.at)
    kept = {}
    for view in view_of(look).arms:
        arm_id, arm = view.arm, view.launch
        number = record.arm_numbers[arm_id]
        stored = known.looks.get(number)
        covered = stored.covered if stored is not None and stored.entry == arm.entry else {}
        kept[number] = StoredLook(
            at=look.at,
            entry=arm.entry,
            covered=covered,
            holds=_holds(look, arm_id),
            figures=_figures(look, arm_id),
            sentence=view.sentence,
            next=view.next,
            next_at=view.next_at,
            causes=tuple(hold for hold, _ in view.holds),
            gates=tuple(gate for gate, _ in view.gates if math.isfinite(gate.figure)),
            claims=tuple(claim for claim, _ in view.claims),
            heard=heard,
        )
    return kept


def _holds(look: Look, arm_id: str) -> tuple[str, ...]:
    return tuple(sorted(f"{hold.cause}:{hold.metric}".rstrip(":") for hold in look.holds(arm_id)))


def _figures(look: Look, arm_id: str) -> dict[str, float]:
    figures = {gate.name: gate.figure for gate in look.gates(arm_id)}
    return {name: figure for name, figure in figures.items() if math.isfinite(figure)}


def _noted(known: ReportFacts, look: Look) -> list[NewEvent]:
    """Return the events of a look: changes in what keeps an arm from moving, and the end of a cycle."""
    record = known.found.record
    events = []
    for arm_id, arm in look.launching.launch.arms.items():
        before = known.looks.get(record.arm_numbers[arm_id])
        is_same_visit = before is not None and before.entry == arm.entry
        held = before.holds if is_same_visit and before is not None else ()
        holds = _holds(look, arm_id)
        figures: dict[str, JsonValue] = dict(_figures(look, arm_id))
        if holds != held:
            texts = [hold_sentence(hold) for hold in look.holds(arm_id)]
            events.append(
                NewEvent(
                    kind=EventKind.BLOCKED,
                    arm=arm_id,
                    actor=CONTROLLER,
                    reason="; ".join(texts) or "nothing keeps it from moving any more",
                    figures=figures | {"holds": list(holds)},
                )
            )
        if is_same_visit and before is not None and _ends_cycle(look, arm, before.at):
            gates = ", ".join(gate_sentence(gate) for gate in look.gates(arm_id))
            events.append(
                NewEvent(kind=EventKind.LOOK, arm=arm_id, actor=CONTROLLER, reason=gates, figures=figures)
            )
    return events


def _ends_cycle(look: Look, arm: ArmLaunch, last_at: datetime) -> bool:
    """Whether a cycle of an arm's visit has ended since the last look."""
    if arm.state not in ON_ITS_WAY | {ArmState.PROMOTED}:
        return False
    cycle = look.launching.plan.cycle
    return (look.at - arm.entered_at) // cycle > (last_at - arm.entered_at) // cycle
