"""Building a report from the store's data: beliefs by folding facts, evidence by sequential tests."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Final

from bandit.decision_id import Basis
from bandit.experiment import Experiment
from bandit.facts import Epoch, Facts
from bandit.facts.fold import ArmObservations
from bandit.facts.units import N_STEERING
from bandit.hints import hints_from, hints_on
from bandit.metric import Metric
from bandit.posteriors import Posterior
from bandit.validation import Violation, shown
from server.services.errors import InvalidInputError
from server.services.experiments.epochs import state_of
from server.services.reports.beliefs import ArmBeliefs
from server.services.reports.evidence import (
    EvidenceInput,
    EvidenceSummary,
    evidence_input,
    summarise_evidence,
)
from server.services.reports.heavy_units import heavy_units_note
from server.services.reports.launch.look import look_with
from server.services.reports.launch.view import view_of
from server.services.reports.outlook import outlook_text
from server.services.reports.sentences import verdict_on
from server.services.reports.values import LEVEL, ArmReport, MetricReport, Report, ReportRequest
from server.store.records import ExperimentFacts, ExperimentRecord, ReportFacts

MOST_CELLS: Final = 20_000
"""Epochs of history times arms in a report: some 2 MB on the wire, of the 4 MiB that clients accept."""

MUCH: Final = 0.1
"""The fraction of all decisions from which the report explains why evidence leaves them out."""

_LEFT_OUT: Final = {
    Basis.RESTRICTED: (
        "restricted",
        (
            "their callers could serve fewer arms than are in service. They steer, but do not enter "
            "evidence, which holds for callers that can serve every arm"
        ),
    ),
    Basis.FALLBACK: (
        "fallbacks",
        (
            "the certain answer while the experiment was paused or concluded, the database had been "
            "unreachable for too long, or no eligible arm was in service. They do not steer and are in no "
            "mean"
        ),
    ),
    Basis.UNCONFIRMED: (
        "unconfirmed",
        (
            "the server that made them had not reached the database in time. They do not steer and are in "
            "no mean"
        ),
    ),
}
"""Kinds of decisions that evidence leaves out: their name, and their cause."""

_BELIEFS: Final = (
    "P(best) (chance to win), expected loss (risk) and posterior intervals are beliefs: they follow from the "
    "prior and the outcomes so far, and promise no error rate under repeated looks."
)


_FLUSH_INTERVAL: Final = timedelta(seconds=1)
"""How often servers older than 0.3.0 flush their counts by default."""


def make_report(
    known: ReportFacts,
    request: ReportRequest,
    lag: timedelta,
    now: datetime,
    *,
    n_uncounted: int = 0,
    is_clock_doubted: bool = False,
) -> Report:
    """Build the report from the store's data.

    Args:
        known: The store's data.
        request: Selects what the report contains.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment of the report.
        n_uncounted: Decisions of this server that are not in the store yet.
        is_clock_doubted: Whether the clock is in doubt.

    Raises:
        InvalidInputError: A split names an arm that the experiment never had, or has bad weights; or a metric
            is not declared.
    """
    found = known.found
    splits = _numbered_splits(found.record, request.splits)
    metrics = _reported_metrics(found.record.experiment, request.metrics)
    state = state_of(found.record, found.epochs, found.facts, lag, now, known.steering)
    inputs = evidence_input(state, known.declarations, known.units)
    beliefs = ArmBeliefs(found.record, inputs.state)
    evidence = _evidence(found.record, inputs, beliefs, splits, request.lift)
    n_units = Counter() if inputs.unit_facts is None else inputs.unit_facts.count_decisions()
    arms = tuple(_arm_reports(found, beliefs, metrics, n_units))
    look = look_with(
        known, inputs, evidence.assessment, beliefs.probabilities, is_clock_doubted=is_clock_doubted
    )
    return Report(
        record=found.record,
        reported_at=now,
        arms=arms,
        epochs=_thinned(found.epochs, _most_epochs(found.epochs, request.max_epochs)),
        n_epochs=len(found.epochs),
        metrics=metrics,
        evidence=evidence,
        verdict=verdict_on(evidence, {arm: arm_id for arm_id, arm in found.record.arm_numbers.items()}, arms),
        outlook=outlook_text(evidence.outlook),
        notes=tuple(_notes(known, inputs, beliefs, metrics, n_uncounted)),
        hints=tuple(_hints(found.record, beliefs, metrics)),
        heavy=known.units.heavy,
        n_uncounted=n_uncounted,
        launch=None if look is None else view_of(look),
    )


def _evidence(
    record: ExperimentRecord,
    inputs: EvidenceInput,
    beliefs: ArmBeliefs,
    splits: Sequence[Mapping[int, float]],
    lift: float | None,
) -> EvidenceSummary:
    """Return the evidence; if no split is requested, with an even one over the arms in service."""
    n_arms = len(beliefs.in_service)
    even = [dict.fromkeys(beliefs.in_service, 1 / n_arms)] if n_arms else []
    probabilities, champion_loss = beliefs.probabilities, beliefs.champion_loss
    return summarise_evidence(record, inputs, probabilities, champion_loss, splits=splits or even, lift=lift)


def _reported_metrics(declared: Experiment, names: Sequence[str]) -> frozenset[str]:
    """Return the names of the metrics to report on.

    Raises:
        InvalidInputError: A metric is not declared.
    """
    known = {metric.name for metric in declared.metrics}
    violations = [
        Violation(f"metrics[{index}]", f"{shown(name)} is not one of the metrics")
        for index, name in enumerate(names)
        if name not in known
    ]
    if violations:
        raise InvalidInputError(violations)
    return frozenset({declared.reward_metric, *names} if names else known)


def _arm_reports(
    found: ExperimentFacts,
    beliefs: ArmBeliefs,
    metrics: Collection[str],
    n_units: Counter[tuple[int, Basis]],
) -> Iterator[ArmReport]:
    current, in_service = found.epochs[-1], set(beliefs.in_service)
    decisions = found.facts.count_decisions()
    for arm_id, arm in _in_order(found.record):
        loss = beliefs.losses.get(arm, inf)
        yield ArmReport(
            arm=arm_id,
            share=current.shares.get(arm, 0.0),
            is_out_of_service=arm not in in_service,
            is_warming_up=arm in current.warming_up,
            decisions={basis: decisions[arm, basis] for basis in Basis if basis is not Basis.UNCOUNTED},
            n_units=n_units[arm, Basis.POLICY],
            metrics=tuple(
                _metric_report(
                    metric, beliefs.observations[metric.name][arm], beliefs.posteriors[metric.name][arm]
                )
                for metric in beliefs.metrics
                if metric.name in metrics
            ),
            probability_best=beliefs.probabilities.get(arm),
            expected_loss=loss if isfinite(loss) else None,
        )


def _in_order(record: ExperimentRecord) -> list[tuple[str, int]]:
    declared = dict.fromkeys(arm.id for arm in record.experiment.arms)
    return [(arm_id, record.arm_numbers[arm_id]) for arm_id in declared | dict.fromkeys(record.arm_numbers)]


def _metric_report(metric: Metric, observations: ArmObservations, belief: Posterior) -> MetricReport:
    lower, upper = belief.interval(LEVEL)
    return MetricReport(
        metric=metric.name,
        role=metric.role,
        worse_by=metric.worse_by,
        observations=observations,
        mean=observations.sums.mean if observations.sums.n > 0 else None,
        belief=belief,
        interval=(max(lower, metric.minimum), min(upper, metric.maximum)),
    )


def _numbered_splits(
    record: ExperimentRecord, splits: Sequence[Mapping[str, float]]
) -> list[dict[int, float]]:
    """Return the splits, each arm number to weight.

    Raises:
        InvalidInputError: A split names an arm that the experiment never had, or has bad weights.
    """
    violations = []
    for index, split in enumerate(splits):
        where = f"splits[{index}].weights"
        unknown = [arm_id for arm_id in split if arm_id not in record.arm_numbers]
        violations += [Violation(where, f"{shown(arm_id)} is not one of the arms") for arm_id in unknown]
        total = sum(split.values())
        if not (all(isfinite(weight) and weight >= 0 for weight in split.values()) and 0 < total < inf):
            rule = "weights must be finite and at least 0, with a positive sum"
            violations.append(Violation(where, rule))
    if violations:
        raise InvalidInputError(violations)
    return [{record.arm_numbers[arm_id]: weight for arm_id, weight in split.items()} for split in splits]


def _most_epochs(epochs: Sequence[Epoch], most: int) -> int:
    """Return the number of epochs to report: as requested, within the report's room; at least 1."""
    widest = max(len(epoch.shares) for epoch in epochs)
    return max(min(most, MOST_CELLS // max(widest, 1)), 1)


def _thinned(epochs: Sequence[Epoch], most: int) -> tuple[Epoch, ...]:
    """Return evenly spaced epochs, the first and the last among them.

    >>> _thinned([1, 2, 3, 4, 5, 6, 7], 3)
    (1, 4, 7)
    """
    if len(epochs) <= most:
        return tuple(epochs)
    if most == 1:
        return (epochs[-1],)
    step = (len(epochs) - 1) / (most - 1)
    return tuple(epochs[round(index * step)] for index in range(most))


def _hints(record: ExperimentRecord, beliefs: ArmBeliefs, metrics: Collection[str]) -> Iterator[str]:
    """Yield hints on the declaration, then on what came in."""
    yield from hints_on(record.experiment, has_started=True)
    arms = {arm: number for arm, number in _in_order(record) if number in set(beliefs.in_service)}
    priors = record.taken_priors
    for metric in beliefs.metrics:
        if metric.name in metrics:
            observations = beliefs.observations[metric.name]
            seen = {arm: observations[number] for arm, number in arms.items()}
            taken = {arm: each[metric.name] for arm, each in priors.items() if metric.name in each}
            yield from hints_from(metric, seen, taken, steers=metric is beliefs.reward)


def _notes(
    known: ReportFacts, inputs: EvidenceInput, beliefs: ArmBeliefs, metrics: Collection[str], n_uncounted: int
) -> Iterator[str]:
    """Yield cautions for anyone who quotes a number."""
    yield from _uncounted(n_uncounted)
    yield from _belief_notes(inputs, beliefs)
    yield from _prior_notes(known.found.record, metrics)
    yield from _bias_of_old_runs(known.found, metrics, known.n_old_runs, inputs.state.now)
    yield from _traffic_notes(inputs.state.facts)
    yield from heavy_units_note(known.units.heavy, known.found.record.name)


def _uncounted(n_decisions: int) -> Iterator[str]:
    if n_decisions:
        yield (
            f"The store takes no writes at the moment: up to {n_decisions:,} decisions of the answering "
            "server are not counted here. They are kept in memory until it takes writes again."
        )


def _bias_of_old_runs(
    found: ExperimentFacts, metrics: Collection[str], n_runs: int, now: datetime
) -> Iterator[str]:
    """Yield how much outcomes without their lost counts can bias a mean.

    The bias is mean x rate x flush interval x crashes / N. With the rate as N over the time that the
    experiment has run, N cancels.
    """
    has_silence = any(
        metric.default_value is not None
        for metric in found.record.experiment.metrics
        if metric.name in metrics
    )
    if n_runs and has_silence:
        share = min(n_runs * _FLUSH_INTERVAL / max(now - found.epochs[0].started_at, _FLUSH_INTERVAL), 1.0)
        yield (
            f"{n_runs} runs of servers older than 0.3.0 took part, whose ids do not show which counts were "
            f"lost when a server was killed. If all of them were killed, about {share:.2g} of the decisions "
            "are missing although their outcomes are counted, and means of metrics with a default value are "
            "too high by that share."
        )


def _belief_notes(inputs: EvidenceInput, beliefs: ArmBeliefs) -> Iterator[str]:
    yield _BELIEFS
    if inputs.repeats is not None and inputs.repeats.is_too_much:
        yield f"Evidence is withheld: {inputs.repeats.explanation}."
    reward, observations = beliefs.reward, beliefs.observations[beliefs.reward.name]
    if reward.window is not None and inputs.unit_facts is None:
        waiting = "count when their epoch has closed: the window and the replicas' lag after its end"
        yield f"Outcomes of {reward.name} (window {reward.window}) {waiting}."
    elif reward.window is not None:
        waiting = "count when the window and the replicas' lag have passed since it"
        yield f"Outcomes of {reward.name} for a unit's decision (window {reward.window}) {waiting}."
    if inputs.unit_facts is not None:
        yield (
            f"Beliefs count the first {N_STEERING} decisions of a unit, for the arm of the first; evidence "
            "counts it once. Where units return, observations are fewer than decisions."
        )
    n_silent = sum(seen.sums.n == 0 for seen in observations.values())
    if n_silent:
        yield f"{n_silent} of {len(observations)} arms have no counted observation: belief is their prior."


def _prior_notes(record: ExperimentRecord, metrics: Collection[str]) -> Iterator[str]:
    """Yield what the belief about each arm starts from, where that is another arm's outcomes."""
    for arm in record.experiment.arms:
        if arm.prior_from is None:
            continue
        taken = record.taken_priors.get(arm.id, {})
        listed = ", ".join(
            f"{sums.n:,.4g} of {metric} (mean {sums.mean:.4g})"
            for metric, sums in taken.items()
            if metric in metrics
        )
        source, weight = arm.prior_from.arm, f"{arm.prior_from.weight:g}"
        if not taken:
            yield f"{arm.id} was to start from outcomes of {source}, which had none when {arm.id} was added."
        elif listed:
            yield (
                f"Belief about {arm.id} starts from outcomes of {source}, each counted as {weight}, as they "
                f"stood when {arm.id} was added: {listed}. Evidence does not use them."
            )


def _traffic_notes(facts: Facts) -> Iterator[str]:
    """Yield the kinds of decisions that evidence leaves out, with the reason where they are many."""
    counts = facts.count_decisions()
    total = sum(counts.values())
    for basis, (what, cause) in _LEFT_OUT.items():
        count = sum(n for (_, own), n in counts.items() if own is basis)
        if count >= MUCH * total > 0:
            yield f"{count:,} of {total:,} decisions ({100 * count / total:.3g} %) were {what}: {cause}."
        elif count and basis is not Basis.RESTRICTED:
            yield f"{count} decisions were {what}: they do not steer and are in no mean."
    n_lost = facts.count_outcomes(Basis.UNCOUNTED)
    if n_lost:
        yield (
            f"{n_lost:,} outcomes are left out: a server that was killed lost the counts of their decisions. "
            "Decisions and outcomes are both missing, so no mean is biased."
        )
