"""The lifecycle of experiments: created, changed, started, paused, concluded, deleted."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import structlog

from bandit.allocation import ExperimentState
from bandit.experiment import Experiment
from bandit.facts import Epoch
from bandit.launch.launching import Occasion
from bandit.validation import shown
from server.services.errors import (
    ExperimentChangedError,
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidInputError,
    TransitionRefusedError,
)
from server.services.experiments import launching
from server.services.experiments.allocator import Allocator
from server.services.experiments.declaring import declared, require_change, require_new
from server.services.experiments.epochs import first_allocation, new_epoch, state_of
from server.services.experiments.launching import NO_TERMS, MoveTerms
from server.services.experiments.quotas import NO_QUOTAS, Quotas
from server.services.experiments.taken_priors import new_sources, with_taken_priors
from server.services.runtime.async_store import AsyncStore, Thread
from server.services.runtime.clock import Clock
from server.services.snapshot.snapshot import Snapshot
from server.store.contract import Store
from server.store.errors import StaleRevisionError
from server.store.records import (
    ANYONE,
    EventKind,
    ExperimentRecord,
    LiveExperiment,
    NewEvent,
    State,
    StoredLook,
)

_ATTEMPTS = 5
_UPDATED = "updated"

log = structlog.get_logger()


class Experiments:
    """Changes experiments in the store, and puts each change in force here.

    Args:
        store: Has the experiments.
        snapshot: Gets the changes.
        allocator: Notified of running experiments.
        clock: The time.
        lag: How long a replica may go on with an epoch after its end.
        convergence: How soon a change made by one replica is known to all.
        quotas: Limits on declarations.
    """

    def __init__(
        self,
        store: AsyncStore,
        snapshot: Snapshot,
        allocator: Allocator,
        clock: Clock,
        *,
        lag: timedelta,
        convergence: timedelta,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        self._store = store.for_calls
        self._snapshot = snapshot
        self._allocator = allocator
        self._clock = clock
        self._lag = lag
        self._convergence = convergence
        self._quotas = quotas

    async def create(
        self, experiment: Experiment, *, validate_only: bool = False, caller: str = ANYONE
    ) -> LiveExperiment:
        """Store a draft.

        Raises:
            InvalidInputError: It breaks rules.
            ExperimentExistsError: Its name is or was in use.
            QuotaReachedError: It has too many arms, or its namespace is full.
        """
        require_new(experiment)
        self._quotas.require_arms(len(experiment.arms))
        now = self._clock.now()
        if validate_only:
            await self._require_free(experiment.name)
            return LiveExperiment(ExperimentRecord.draft(experiment, now), None)
        record = await self._store.create_experiment(experiment, now, caller, quota=self._quotas.experiments)
        return await self._settled(self._put_in_force(LiveExperiment(record, None), "created", caller))

    async def get(self, name: str) -> LiveExperiment:
        """Return an experiment as the store has it; ExperimentNotFoundError if it does not exist."""
        record = await self._find(name)
        known = self._snapshot.find_live(record.number)
        return LiveExperiment(record, None if known is None else known.epoch)

    async def list(
        self, after: str, limit: int, state: State | None, namespaces: Collection[str] | None = None
    ) -> list[LiveExperiment]:
        """Return at most `limit` experiments in the order of names, from the first after `after`.

        If namespaces are given, return only experiments in one of them.
        """
        records = await self._store.list_experiments(after, limit, state, namespaces)
        known = {record.number: self._snapshot.find_live(record.number) for record in records}
        return [
            LiveExperiment(record, live.epoch if (live := known[record.number]) is not None else None)
            for record in records
        ]

    async def looks(self, found: Iterable[LiveExperiment]) -> Mapping[int, Mapping[int, StoredLook]]:
        """Return number to arm number to the last look, of those of the experiments that have a launch."""
        launched = [live.record.number for live in found if live.record.launch is not None]
        return await self._store.read_looks(launched) if launched else {}

    async def update(
        self,
        name: str,
        apply: Callable[[Experiment], Experiment],
        revision: int | None,
        *,
        validate_only: bool = False,
        caller: str = ANYONE,
    ) -> LiveExperiment:
        """Change the declaration. A running experiment continues with an epoch of the new declaration.

        Args:
            name: The experiment's name.
            apply: Returns the new declaration for the stored one; may be called more than once.
            revision: Change only this revision; None for any.
            validate_only: Store nothing.
            caller: Recorded in the audit.

        Raises:
            InvalidInputError: The new declaration breaks rules, or falsifies recorded data.
            TransitionRefusedError: The experiment is concluded.
            QuotaReachedError: It would have more arms than before, and more than allowed.
        """

        def change(record: ExperimentRecord) -> ExperimentRecord:
            if record.state is State.CONCLUDED:
                raise TransitionRefusedError(name, record.state, "changed")
            experiment = launching.with_champion(record, apply(record.experiment))
            require_change(record, experiment)
            self._quotas.require_arms(len(experiment.arms), n_before=len(record.experiment.arms))
            after = declared(record, experiment)
            return launching.redeclared(record, after, self._occasion(record, caller))

        return await self._change(name, change, revision, _UPDATED, caller, validate_only=validate_only)

    async def start(self, name: str, revision: int | None, caller: str = ANYONE) -> LiveExperiment:
        """Let shares decide; no change if they already do."""

        def change(record: ExperimentRecord) -> ExperimentRecord:
            if record.state is State.CONCLUDED:
                raise TransitionRefusedError(name, record.state, "started")
            started_at = record.started_at or self._clock.now()
            running = replace(record, state=State.RUNNING, started_at=started_at)
            return launching.started(running, self._occasion(record, caller))

        return await self._change(name, change, revision, "started", caller)

    async def pause(self, name: str, revision: int | None, caller: str = ANYONE) -> LiveExperiment:
        """Let the champion answer; no change if it already does."""

        def change(record: ExperimentRecord) -> ExperimentRecord:
            if record.state not in {State.RUNNING, State.PAUSED}:
                raise TransitionRefusedError(name, record.state, "paused")
            return replace(record, state=State.PAUSED)

        return await self._change(name, change, revision, "paused", caller)

    async def conclude(
        self, name: str, winner: str, revision: int | None, caller: str = ANYONE
    ) -> LiveExperiment:
        """Let the winner answer from now on; no change if it already does."""

        def change(record: ExperimentRecord) -> ExperimentRecord:
            if winner not in {arm.id for arm in record.experiment.arms}:
                raise InvalidInputError.of("winner", f"{shown(winner)} is not one of the experiment's arms")
            if record.state is State.DRAFT or (record.state is State.CONCLUDED and record.winner != winner):
                raise TransitionRefusedError(name, record.state, "concluded")
            concluded_at = record.concluded_at or self._clock.now()
            ended = launching.concluded(record, winner, self._occasion(record, caller))
            return replace(ended, state=State.CONCLUDED, winner=winner, concluded_at=concluded_at)

        return await self._change(name, change, revision, "concluded", caller)

    async def move(
        self,
        name: str,
        change: Callable[[ExperimentRecord], ExperimentRecord],
        *,
        event: str,
        caller: str,
        revision: int | None = None,
        validate_only: bool = False,
        attempts: int = _ATTEMPTS,
        terms: MoveTerms = NO_TERMS,
    ) -> LiveExperiment:
        """Change where the challengers of a launch are.

        Args:
            name: The experiment's name.
            change: Returns the experiment after the move; may be called more than once.
            event: What is done, for the log.
            caller: Recorded in the audit.
            revision: Change only this revision; None for any.
            validate_only: Store nothing.
            attempts: How often to try while others change the experiment at the same time.
            terms: How the move is stored and told.

        Raises:
            NoLaunchError: The experiment has no launch.
            LaunchRefusedError: The rules forbid the move.
            ExperimentChangedError: It is of another revision, or kept changing.
        """
        return await self._change(
            name,
            change,
            revision,
            event,
            caller,
            validate_only=validate_only,
            attempts=attempts,
            terms=terms,
        )

    def _occasion(self, record: ExperimentRecord, caller: str) -> Occasion:
        return launching.occasion_for(record, self._clock.now(), caller)

    async def delete(self, name: str, revision: int | None, caller: str = ANYONE) -> None:
        """Delete an experiment that is not running."""
        record = await self._find(name)
        if revision is not None and record.revision != revision:
            raise ExperimentChangedError(name)
        if record.state is State.RUNNING:
            raise TransitionRefusedError(name, record.state, "deleted before it is paused")
        try:
            await self._store.delete_experiment(record, self._clock.now(), caller)
        except StaleRevisionError:
            raise ExperimentChangedError(name) from None
        self._snapshot.drop(record.number)
        log.info("experiment.deleted", experiment=name, caller=caller)
        await self._wait_for_replicas(self._convergence)

    async def _require_free(self, name: str) -> None:
        if await self._store.has_name(name):
            raise ExperimentExistsError(name)

    async def _find(self, name: str) -> ExperimentRecord:
        record = await self._store.find_experiment(name)
        if record is None:
            raise ExperimentNotFoundError(name)
        return record

    async def _change(
        self,
        name: str,
        change: Callable[[ExperimentRecord], ExperimentRecord],
        revision: int | None,
        event: str,
        caller: str,
        *,
        validate_only: bool = False,
        attempts: int = _ATTEMPTS,
        terms: MoveTerms = NO_TERMS,
    ) -> LiveExperiment:
        """Read, change and write back; try again if the stored experiment has changed meanwhile."""
        for _ in range(attempts):
            before = await self._find(name)
            if revision is not None and before.revision != revision:
                raise ExperimentChangedError(name)
            after = await self._with_taken_priors(before, change(before))
            if validate_only or after == before:
                known = self._snapshot.find_live(before.number)
                live = LiveExperiment(after, None if known is None else known.epoch)
                return live if validate_only else await self._settled(live)
            after = replace(after, updated_at=self._clock.now())
            try:
                return await self._settled(await self._store_change(before, after, event, caller, terms))
            except StaleRevisionError:
                continue
        raise ExperimentChangedError(name)

    async def _with_taken_priors(self, before: ExperimentRecord, after: ExperimentRecord) -> ExperimentRecord:
        sources = new_sources(before, after)
        if not sources or before.state is State.DRAFT:
            return after
        state = await self._store.run(Thread.COMPUTE, self._state, before)
        return after if state is None else with_taken_priors(after, sources, state)

    def _state(self, store: Store, record: ExperimentRecord) -> ExperimentState | None:
        """Return an experiment with its facts; None before its first epoch."""
        found = store.read_facts(record.number)
        if found is None or not found.epochs:
            return None
        steering = self._allocator.steering.read(store, found.record).facts
        return state_of(record, found.epochs, found.facts, self._lag, self._clock.now(), steering)

    async def _store_change(
        self,
        before: ExperimentRecord,
        after: ExperimentRecord,
        event: str,
        caller: str,
        terms: MoveTerms,
    ) -> LiveExperiment:
        epoch = None
        if after.state is State.RUNNING:
            epoch = await self._store.run(Thread.COMPUTE, self._next_epoch, before, after)
        happened = launching.events_between(before, after, caller, terms)
        if happened and event == _UPDATED:
            happened = (NewEvent(kind=EventKind.UPDATED, actor=caller), *happened)
        record = await self._store.change_experiment(
            before, after, epoch, caller=caller, request=terms.request, events=happened, fence=terms.fence
        )
        known = self._snapshot.find_live(record.number)
        if epoch is not None:
            in_force: Epoch | None = replace(epoch, revision=record.revision)
        else:
            is_current = known is not None and known.record.revision >= before.revision
            in_force = known.epoch if known is not None and is_current else None
        return self._put_in_force(LiveExperiment(record, in_force), event, caller)

    def _next_epoch(self, store: Store, before: ExperimentRecord, after: ExperimentRecord) -> Epoch:
        """Return the epoch with which a running experiment continues after a change."""
        now = self._clock.now()
        found = store.read_facts(before.number)
        steering = None if found is None else self._allocator.steering.read(store, found.record).facts
        allocation = first_allocation(after, found, self._lag, now, steering)
        current = found.epochs[-1] if found is not None and found.epochs else None
        return new_epoch(after, current, allocation, now)

    async def _settled(self, live: LiveExperiment) -> LiveExperiment:
        """Return once every replica that reaches the store knows this revision."""
        age = max(self._clock.now() - live.record.updated_at, timedelta())
        await self._wait_for_replicas(self._convergence - age)
        return live

    async def _wait_for_replicas(self, time: timedelta) -> None:
        if self._store.is_shared:
            await asyncio.sleep(max(time.total_seconds(), 0.0))

    def _put_in_force(self, live: LiveExperiment, event: str, caller: str) -> LiveExperiment:
        self._snapshot.put(live)
        self._allocator.mark_changed([live.record.number])
        log.info(
            "experiment.changed",
            what=event,
            experiment=live.record.name,
            revision=live.record.revision,
            caller=caller,
        )
        return live
