"""The ledger: checks a reward, queues it, and acknowledges it once it is committed."""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from math import isfinite
from typing import Final, NamedTuple, TypeAlias, cast

from bandit.decision_id import NO_UNIT, Basis, InvalidDecisionError, Signer, UnknownKeyError, key_of
from bandit.experiment import AnalysisUnit
from bandit.metric import Metric, OutcomeValueError
from bandit.validation import Violation, namespace_of, shown
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
)
from server.services.reward.commit_queue import RewardQueue
from server.services.reward.inquiries import KEYS, Inquiries, Subject
from server.services.reward.known_epochs import EpochClaim, KnownEpochs
from server.services.runtime.clock import Clock
from server.services.snapshot.snapshot import Snapshot
from server.store.records import (
    Conflicting,
    EpochKey,
    ExperimentRecord,
    Expired,
    OutcomeEntry,
    OutcomeResult,
    Recorded,
    Refused,
    Revoked,
    RewardEntry,
    RewardVerdict,
    Sealed,
)

MAX_OUTCOMES: Final = 64
_RETRY_WHEN_IN_DOUBT: Final = timedelta(seconds=30)


class PostedReward(NamedTuple):
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
    """The rules for the rewards of one experiment, compiled from a revision of it."""

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


_Question: TypeAlias = Subject | EpochClaim
"""A question to the store before an answer is final."""


class _BadOutcomes(NamedTuple):
    """Outcomes that break rules.

    Attributes:
        violations: The broken rules.
        is_in_doubt: Whether a later revision of the experiment may not have these rules.
    """

    violations: Sequence[Violation]
    is_in_doubt: bool


class _Provisional(NamedTuple):
    """An answer that depends on something not known here, which the store may know.

    Attributes:
        answer: The answer if the store knows no more than this server.
        questions: The questions to the store.
    """

    answer: RewardEntry | ServiceError
    questions: frozenset[_Question]


_Checked: TypeAlias = RewardEntry | ServiceError
_Finding: TypeAlias = _Checked | _Provisional

RewardAnswer: TypeAlias = Mapping[str, OutcomeResult] | ServiceError
"""The result of each outcome of a reward, or why it was refused."""


class Ledger:
    """Checks rewards and hands them to the queue. Belongs to the event loop's thread.

    Args:
        snapshot: The experiments.
        signer: Reads decisions.
        queue: Commits the checked rewards.
        clock: The time.
        inquiries: Asks the store about experiments and keys before a reward is refused because of them.
        epochs: Looks up the epochs of decisions.

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
        inquiries: Inquiries,
        epochs: KnownEpochs,
    ) -> None:
        self._snapshot = snapshot
        self.signer = signer
        self._queue = queue
        self._clock = clock
        self._inquiries = inquiries
        self._epochs = epochs
        self._rules: dict[int, _Rules] = {}

    def post(
        self, reports: Sequence[PostedReward], namespaces: Collection[str] | None = None
    ) -> list[RewardAnswer] | asyncio.Future[list[RewardAnswer]]:
        """Check rewards and queue them at once; return their answers in order, or the future of those.

        Those that passed the checks are committed. The future fails with StorageUnavailableError if the store
        can't be reached, and OverloadedError if it has no room left; then nothing was acknowledged. Only what
        the store has to be asked about first takes a task.

        Args:
            reports: The rewards as they were posted.
            namespaces: Namespaces whose experiments the caller may reward; None for all.

        Raises:
            OverloadedError: The queue is full; nothing was stored.
        """
        now_ms = self._clock.time_ms()
        findings = [self._find(report, now_ms, namespaces) for report in reports]
        if any(isinstance(finding, _Provisional) for finding in findings):
            inquiry = self._inquire(reports, namespaces, now_ms, findings)
            return asyncio.get_running_loop().create_task(inquiry)
        return self._submit(cast("list[_Checked]", findings))

    def _submit(self, checked: list[_Checked]) -> list[RewardAnswer] | asyncio.Future[list[RewardAnswer]]:
        """Queue what passed the checks; return the answers if nothing did."""
        entries = [each for each in checked if isinstance(each, RewardEntry)]
        if not entries:
            return cast("list[RewardAnswer]", checked)
        return self._queue.post(entries, partial(self._answers, checked))

    def _answers(self, checked: Sequence[_Checked], verdicts: Sequence[RewardVerdict]) -> list[RewardAnswer]:
        found = iter(verdicts)
        return [
            self._answer(each, next(found)) if isinstance(each, RewardEntry) else each for each in checked
        ]

    async def _inquire(
        self,
        reports: Sequence[PostedReward],
        namespaces: Collection[str] | None,
        now_ms: int,
        findings: list[_Finding],
    ) -> list[RewardAnswer]:
        """Ask the store about provisional findings, then go on as `post` does."""
        posted = self._submit(await self._check_again(reports, namespaces, now_ms, findings))
        return posted if isinstance(posted, list) else await posted

    async def _check_again(
        self,
        reports: Sequence[PostedReward],
        namespaces: Collection[str] | None,
        now_ms: int,
        findings: list[_Finding],
    ) -> list[_Checked]:
        """Return the findings; provisional ones are checked again once the store was asked."""
        asked: set[_Question] = set()
        while provisional := {n: each for n, each in enumerate(findings) if isinstance(each, _Provisional)}:
            open_questions: set[_Question] = set()
            for number, finding in provisional.items():
                if self._is_answered(finding, asked):
                    findings[number] = finding.answer
                else:
                    open_questions |= finding.questions
            open_questions -= asked
            await self._ask(open_questions)
            asked |= open_questions
            for number in provisional:
                if isinstance(findings[number], _Provisional):
                    findings[number] = self._find(reports[number], now_ms, namespaces)
        return cast("list[_Checked]", findings)  # no finding is provisional any more

    def _is_answered(self, finding: _Provisional, asked: Collection[_Question]) -> bool:
        return all(
            question in asked
            or (
                self._epochs.is_answered(question)
                if isinstance(question, EpochClaim)
                else self._inquiries.is_answered(question)
            )
            for question in finding.questions
        )

    async def _ask(self, questions: Collection[_Question]) -> None:
        """Load what the store knows, about experiments and epochs concurrently."""
        claims = [question for question in questions if isinstance(question, EpochClaim)]
        subjects = [question for question in questions if not isinstance(question, EpochClaim)]
        await asyncio.gather(self._inquiries.ask(subjects), self._epochs.ask(claims))

    def _find(self, report: PostedReward, now_ms: int, namespaces: Collection[str] | None) -> _Finding:
        """Return the result of a reward, as far as it is known here."""
        try:
            return self._check(report, now_ms, namespaces)
        except UnknownKeyError:
            return _Provisional(DecisionIdInvalidError(), frozenset({KEYS}))
        except InvalidDecisionError:
            return DecisionIdInvalidError()
        except ServiceError as error:
            return error

    def _check(self, report: PostedReward, now_ms: int, namespaces: Collection[str] | None) -> _Finding:
        """Return the result of a reward as far as it is known here, or raise the reason for refusing it.

        Raises:
            ServiceError: The reward is refused, whatever the store may know.
            InvalidDecisionError: The decision id is invalid; UnknownKeyError if the store may know its key.
        """
        decision = self.signer.read(report.decision_id)
        unique_id, (experiment, epoch, nonce, segment, arm, basis, _), unit = decision
        known_nonce = self._epochs.nonce_of(experiment, segment, epoch)
        rules = self._rules_of(experiment, namespaces)
        if rules is None:
            refusal = ExperimentNotFoundError(None) if namespaces is None else PermissionDeniedError()
            return _Provisional(refusal, frozenset({experiment}))
        age_ms = max(now_ms - decision.decided_ms, 0)  # a wrong clock dates decisions in the future
        is_expired = age_ms > rules.max_age_ms
        outcomes = _check_outcomes(report.outcomes, rules, age_ms)
        if isinstance(outcomes, _BadOutcomes):
            error = InvalidInputError(outcomes.violations)
            return _Provisional(error, frozenset({experiment})) if outcomes.is_in_doubt else error
        # Until the time has settled, late outcomes can't be told from those in time.
        is_late = not self._clock.is_settled and any(outcome.is_late for outcome in outcomes)
        is_apart = known_nonce != nonce
        keeps_unit = rules.counts_units and basis is Basis.POLICY and not is_apart
        entry = RewardEntry(
            unique_id,
            experiment,
            epoch,
            segment,
            arm,
            basis,
            outcomes,
            report.revision,
            now_ms,
            is_expired or is_late,
            is_apart,
            int.from_bytes(unit) if keeps_unit and unit != NO_UNIT else None,
            key_of(report.decision_id),
        )
        if known_nonce is not None and not is_expired:
            return entry
        questions: set[_Question] = {experiment} if is_expired else set()
        if known_nonce is None:
            questions.add(EpochClaim(EpochKey(experiment, segment, epoch), nonce))
        return _Provisional(entry, frozenset(questions))

    def _rules_of(self, experiment: int, namespaces: Collection[str] | None) -> _Rules | None:
        """Return the rules of an experiment; None if it is not known here.

        Raises:
            PermissionDeniedError: It is in a namespace that is not the caller's.
        """
        live = self._snapshot.find_live(experiment)
        if live is None:
            return None
        if namespaces is not None and namespace_of(live.record.name) not in namespaces:
            raise PermissionDeniedError
        rules = self._rules.get(experiment)
        if rules is None or rules.record is not live.record:
            rules = self._rules[experiment] = _Rules(live.record)
        return rules

    def _answer(self, entry: RewardEntry, verdict: RewardVerdict) -> RewardAnswer:
        names = self._rules[entry.experiment].names
        if isinstance(verdict, Recorded):  # before the match, whose unpacking costs ten times as much
            results = zip(entry.outcomes, verdict.results, strict=True)
            return {names[outcome.metric]: result for outcome, result in results}
        match verdict:
            case Conflicting(metrics):
                return OutcomeConflictError(names[metric] for metric in metrics)
            case Expired(metrics):
                is_sure = self._clock.is_settled and not self._clock.is_doubted
                expired = DecisionExpiredError(names[metric] for metric in metrics)
                return expired if is_sure else ClockInDoubtError(_RETRY_WHEN_IN_DOUBT)
            case Sealed():
                return DecisionSealedError()
            case Revoked():
                return DecisionIdInvalidError()
            case Refused():
                return InvalidInputError.of("outcomes", "the store refused these values")


def _outcome(number: int, metric: Metric, value: float, *, is_late: bool) -> OutcomeEntry:
    """Return the entry of a value; -0.0 and subnormal numbers are stored as 0."""
    quanta = metric.quantise(value)
    if not metric.keeps_values:
        return OutcomeEntry(number, quanta, is_late)
    kept = float(value) if abs(value) >= sys.float_info.min else 0.0
    return OutcomeEntry(number, quanta, is_late, kept, metric.is_real)


def _window_ms(metric: Metric) -> float:
    return float("inf") if metric.window is None else metric.window.total_seconds() * 1000


def _check_outcomes(
    outcomes: Mapping[str, float], rules: _Rules, age_ms: float
) -> tuple[OutcomeEntry, ...] | _BadOutcomes:
    """Return the entries to record, in order of metric number; or all broken rules."""
    entries: list[OutcomeEntry] = []
    violations: list[Violation] = []
    is_in_doubt = False
    for name, value in outcomes.items():
        known = rules.metrics.get(name)
        if known is None:
            is_in_doubt = True
            rule = f"experiment {rules.record.name!r} has no such metric"
            violations.append(Violation(f"outcomes[{shown(name)}]", rule))
            continue
        number, metric, window_ms = known
        try:
            entries.append(_outcome(number, metric, value, is_late=age_ms > window_ms))
        except OutcomeValueError as error:
            is_in_doubt |= isfinite(value)  # the metric may clip by now
            violations.append(Violation(f"outcomes[{name!r}]", f"{value!r}: {error.rule}"))
    if not outcomes or len(outcomes) > MAX_OUTCOMES:
        is_in_doubt = False
        rule = f"{len(outcomes)} entries; there must be 1 to {MAX_OUTCOMES}"
        violations.append(Violation("outcomes", rule))
    if violations:
        return _BadOutcomes(violations, is_in_doubt)
    if len(entries) > 1:
        entries.sort()
    return tuple(entries)
