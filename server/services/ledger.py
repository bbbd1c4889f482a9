"""The ledger: a reward is checked, queued, and acknowledged once it is committed."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from math import isfinite
from typing import Final, NamedTuple

from bandit.decision import NO_UNIT, Basis, Decision, InvalidDecisionError, Signer, UnknownKeyError
from bandit.experiment import AnalysisUnit
from bandit.metric import Metric, OutcomeValueError
from bandit.validation import Violation, namespace_of, shown
from server.services.clock import Clock
from server.services.errors import (
    ClockInDoubtError,
    DecisionExpiredError,
    DecisionIdInvalidError,
    DecisionSealedError,
    ExperimentNotFoundError,
    InvalidInputError,
    OutcomeConflictError,
    PermissionDeniedError,
    ServiceError,
    StorageAwayError,
)
from server.services.reward_queue import RewardQueue
from server.services.snapshot import Snapshot
from server.store.errors import StoreError
from server.store.records import (
    Conflicting,
    ExperimentRecord,
    Expired,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    Refused,
    RewardEntry,
    Sealed,
    Verdict,
)

MAX_OUTCOMES: Final = 64
_RETRY_AFTER: Final = timedelta(seconds=1)
_RETRY_WHEN_IN_DOUBT: Final = timedelta(seconds=30)


class Report(NamedTuple):
    """A reward as it was posted.

    Attributes:
        decision_id: The signed decision.
        outcomes: Metric name to value.
        revision: A higher one replaces a value of a lower one.
    """

    decision_id: str
    outcomes: Mapping[str, float]
    revision: int


class _Rules:
    """What the rewards of one experiment are checked against, compiled from a revision of it."""

    __slots__ = ("counts_units", "max_age_ms", "metrics", "names", "record")

    def __init__(self, record: ExperimentRecord) -> None:
        self.record = record
        self.counts_units = record.experiment.analysis_unit is AnalysisUnit.UNIT
        self.max_age_ms = record.experiment.max_decision_age.total_seconds() * 1000
        self.metrics: dict[str, tuple[int, Metric, float]] = {
            metric.name: (record.metric_numbers[metric.name], metric, _window_ms(metric))
            for metric in record.experiment.metrics
        }
        self.names = {number: name for name, number in record.metric_numbers.items()}


class _UnknownHereError(Exception):
    """Something that this replica does not know, so that the store has to be asked before it is refused."""

    def __init__(self, experiment: int | None) -> None:
        self.experiment = experiment  # None: the key that would tell is not known here
        super().__init__(experiment)


class Ledger:
    """Checks rewards and hands them to the queue. Belongs to the event loop's thread.

    Args:
        snapshot: What is known of experiments.
        signer: Reads decisions.
        queue: Where checked rewards wait for a commit.
        clock: The time.
        refresh: Asks the store what changed, and applies it to the snapshot.
        read_nonces: The store's (segment, epoch) to nonce, of one experiment.

    Attributes:
        signer: As above; it may be replaced at any time.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        signer: Signer,
        queue: RewardQueue,
        clock: Clock,
        *,
        refresh: Callable[[], Awaitable[None]],
        read_nonces: Callable[[int], Awaitable[Mapping[tuple[int, int], int]]],
    ) -> None:
        self._snapshot = snapshot
        self.signer = signer
        self._queue = queue
        self._clock = clock
        self._refresh = refresh
        self._read_nonces = read_nonces
        self._rules: dict[int, _Rules] = {}
        self._nonces: dict[int, dict[tuple[int, int], int]] = {}

    async def reward(
        self, reports: Sequence[Report], namespaces: Collection[str] | None = None
    ) -> list[Mapping[str, OutcomeResult] | ServiceError]:
        """What became of each reward, in order; those that passed the checks are committed.

        Args:
            reports: The rewards as they were posted.
            namespaces: Those whose experiments the caller may reward; None for all.

        Raises:
            OverloadedError: The queue is full, or the store has no room left; nothing was stored.
            StorageAwayError: The store can't be reached; nothing was acknowledged.
        """
        now_ms = self._clock.time_ms()
        checked: list[RewardEntry | ServiceError] = []
        unknown: dict[int, int | None] = {}
        for number, report in enumerate(reports):
            try:
                checked.append(self._check(report, now_ms, namespaces))
            except ServiceError as error:
                checked.append(error)
            except _UnknownHereError as error:
                checked.append(DecisionIdInvalidError())
                unknown[number] = error.experiment
        if unknown:
            await self._ask_store(set(unknown.values()))
        for number in unknown:
            try:
                checked[number] = self._check(reports[number], now_ms, namespaces, is_final=True)
            except ServiceError as error:
                checked[number] = error
        entries = [entry for entry in checked if isinstance(entry, RewardEntry)]
        verdicts = iter(await self._queue.submit(entries) if entries else ())
        return [self._answer(c, next(verdicts)) if isinstance(c, RewardEntry) else c for c in checked]

    async def _ask_store(self, experiments: Iterable[int | None]) -> None:
        """Takes in what the store knows of these experiments, and not only this replica."""
        await self._refresh()
        for number in experiments:
            if number is not None and self._snapshot.find_live(number) is not None:
                try:
                    self._nonces[number] = dict(await self._read_nonces(number))
                except StoreError as error:
                    raise StorageAwayError(_RETRY_AFTER) from error

    def _check(
        self, report: Report, now_ms: int, namespaces: Collection[str] | None, *, is_final: bool = False
    ) -> RewardEntry:
        """The entry of a reward.

        Raises:
            ServiceError: The reward is refused.
            _UnknownHereError: It can't be told here; never if `is_final`.
        """
        decision = self._read(report.decision_id, is_final=is_final)
        unique_id, (experiment, epoch, nonce, segment, arm, basis, _), unit = decision
        rules = self._rules_of(experiment, namespaces, is_final=is_final)
        known_nonce = self._nonce_of(experiment, segment, epoch)
        if known_nonce is None and not is_final:
            raise _UnknownHereError(experiment)
        age_ms = max(now_ms - decision.decided_ms, 0)  # one of the future is of a clock that was wrong
        if age_ms > rules.max_age_ms and not is_final:
            raise _UnknownHereError(experiment)
        is_apart = known_nonce != nonce
        keeps_unit = rules.counts_units and basis is Basis.POLICY and not is_apart
        outcomes = self._check_outcomes(report.outcomes, rules, age_ms, decision, is_final=is_final)
        is_too_late = age_ms > rules.max_age_ms
        if not self._clock.is_settled:  # too late for its window can't be told from in time
            is_too_late = is_too_late or any(outcome.is_late for outcome in outcomes)
        return RewardEntry(
            unique_id,
            experiment,
            epoch,
            segment,
            arm,
            basis,
            outcomes,
            report.revision,
            now_ms,
            is_too_late,
            is_apart,
            int.from_bytes(unit) if keeps_unit and unit != NO_UNIT else None,
        )

    def _check_outcomes(
        self,
        outcomes: Mapping[str, float],
        rules: _Rules,
        age_ms: int,
        decision: Decision,
        *,
        is_final: bool,
    ) -> tuple[OutcomeEntry, ...]:
        entries: list[OutcomeEntry] = []
        violations: list[Violation] = []
        for name, value in outcomes.items():
            known = rules.metrics.get(name)
            if known is None:
                if not is_final:
                    raise _UnknownHereError(decision.terms.experiment)
                path = f"outcomes[{shown(name)}]"
                violations.append(Violation(path, f"experiment {rules.record.name!r} has no such metric"))
                continue
            number, metric, window_ms = known
            try:
                entries.append(OutcomeEntry(number, metric.quantise(value), age_ms > window_ms))
            except OutcomeValueError as error:
                if isfinite(value) and not is_final:  # the metric may clip by now
                    raise _UnknownHereError(decision.terms.experiment) from None
                violations.append(Violation(f"outcomes[{name!r}]", f"{value!r}: {error.rule}"))
        if not outcomes or len(outcomes) > MAX_OUTCOMES:
            violations.append(
                Violation("outcomes", f"{len(outcomes)} entries; there must be 1 to {MAX_OUTCOMES}")
            )
        if violations:
            raise InvalidInputError(violations)
        if len(entries) > 1:
            entries.sort()
        return tuple(entries)

    def _read(self, decision_id: str, *, is_final: bool) -> Decision:
        try:
            return self.signer.read(decision_id)
        except UnknownKeyError:
            if is_final:
                raise DecisionIdInvalidError from None
            raise _UnknownHereError(None) from None
        except InvalidDecisionError:
            raise DecisionIdInvalidError from None

    def _rules_of(self, experiment: int, namespaces: Collection[str] | None, *, is_final: bool) -> _Rules:
        live = self._snapshot.find_live(experiment)
        if live is None:
            if not is_final:
                raise _UnknownHereError(experiment)
            if namespaces is not None:
                raise PermissionDeniedError
            raise ExperimentNotFoundError(None)
        if namespaces is not None and namespace_of(live.record.name) not in namespaces:
            raise PermissionDeniedError
        rules = self._rules.get(experiment)
        if rules is None or rules.record is not live.record:
            rules = self._rules[experiment] = _Rules(live.record)
        return rules

    def _nonce_of(self, experiment: int, segment: int, epoch: int) -> int | None:
        """The nonce of the stored epoch; None if it is not known here."""
        nonces = self._nonces.get(experiment)
        if nonces is None:
            nonces = self._nonces[experiment] = {}
        nonce = nonces.get((segment, epoch))
        if nonce is None:
            live = self._snapshot.find_live(experiment)
            if live is not None and live.epoch is not None and live.epoch.number == epoch:
                nonce = nonces[segment, epoch] = live.epoch.nonce
        return nonce

    def _answer(self, entry: RewardEntry, verdict: Verdict) -> Mapping[str, OutcomeResult] | ServiceError:
        names = self._rules[entry.experiment].names
        if isinstance(verdict, Recorded):  # before the match, which takes values apart at ten times the price
            results = zip(entry.outcomes, verdict.results, strict=True)
            return {names[outcome.metric]: result for outcome, result in results}
        match verdict:
            case Conflicting(metrics):
                return OutcomeConflictError(names[metric] for metric in metrics)
            case Expired(metrics):
                if self._clock.is_doubted or not self._clock.is_settled:
                    return ClockInDoubtError(_RETRY_WHEN_IN_DOUBT)
                return DecisionExpiredError(names[metric] for metric in metrics)
            case Sealed():
                return DecisionSealedError()
            case Refused():
                return InvalidInputError.of("outcomes", "the store refused these values")


def _window_ms(metric: Metric) -> float:
    return float("inf") if metric.window is None else metric.window.total_seconds() * 1000
