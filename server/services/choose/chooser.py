"""Choose: an arm, the reason for it, and a signed decision, made from the snapshot alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bandit.assignment import Picker, pick_each
from bandit.decision_id import NO_UNIT, Basis, Decision, InvalidDecisionError, Signer, hash_lone_decision
from bandit.launch.shadow_id import sample_of, shadow_id
from server.services.choose.decision_counter import DecisionCounter
from server.services.choose.decision_ids import IdMaker
from server.services.runtime.clock import Clock
from server.services.runtime.service_time import MOST_AHEAD_MS
from server.services.snapshot.offers import CompiledExperiment, Offer, OfferSet, Reason, ShadowOffer
from server.services.snapshot.snapshot import Snapshot

_TOGETHER_FROM: Final = 6
"""Questions from which on it pays to share work among them."""


class ShadowChoice(NamedTuple):
    """A request that an arm sees in shadow, beside an answer of Choose.

    Attributes:
        offer: The arm, and the terms.
        decision_id: The signed decision, by which the arm's outcomes are posted.
    """

    offer: ShadowOffer
    decision_id: str


class Choice(NamedTuple):
    """An answer of Choose.

    Attributes:
        offer: The arm, the reason for it, and the terms.
        decision_id: The signed decision.
        shadows: Who sees the request in shadow.
    """

    offer: Offer
    decision_id: str
    shadows: Sequence[ShadowChoice] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to Choose, validated by the caller.

    Attributes:
        unit: The unit, which gets the same arm each time; empty without one.
        eligible_arms: Ids of the arms that may be chosen; empty for all.
        previous_decision_id: An earlier decision to stay with; empty without one.
    """

    unit: str = ""
    eligible_arms: Sequence[str] = ()
    previous_decision_id: str = ""


class Chooser:
    """Answers from the snapshot, and counts its decisions. Belongs to the event loop's thread.

    Args:
        snapshot: The experiments.
        signer: Signs and reads decisions.
        counter: Counts decisions.
        clock: The time.
        lag_seconds: If the snapshot is older, decisions are `unconfirmed`.
        max_staleness_seconds: If the snapshot is older, the champion answers; an experiment's own
            `max_staleness` may be less.
        id_maker: Makes the unique ids.

    Attributes:
        signer: As above; it may be replaced at any time.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        signer: Signer,
        counter: DecisionCounter,
        clock: Clock,
        *,
        lag_seconds: float,
        max_staleness_seconds: float,
        id_maker: type[IdMaker] = IdMaker,
    ) -> None:
        self._snapshot = snapshot
        self.signer = signer
        self._counter = counter
        self._clock = clock
        self._lag = lag_seconds
        self._max_staleness = max_staleness_seconds
        self._generator = random.Random(random.SystemRandom().getrandbits(256))  # noqa: S311 - ids and draws, not secrets
        self._ids = id_maker(counter, self._generator)

    def choose(self, experiment: CompiledExperiment, unit: str) -> Choice:
        """Return the answer to a question that names at most a unit."""
        return self._choose_from(self._in_force(experiment, self._basis()), experiment, unit)

    def choose_each(self, asked: Sequence[tuple[CompiledExperiment, str]]) -> list[Choice]:
        """Return what `choose` returns for each question, in order; shared work is done once."""
        if len(asked) < _TOGETHER_FROM:
            return [self.choose(experiment, unit) for experiment, unit in asked]
        basis = self._basis()
        in_force = {
            experiment: self._in_force(experiment, basis) for experiment in {each[0] for each in asked}
        }
        now_ms = self._clock.time_ms()
        decisions = [self._ids.make(now_ms) for _ in asked]
        sets: list[OfferSet] = []
        pickers: list[Picker] = []
        hashes: list[int] = []
        numbers: list[int | None] = []
        marks: list[bytes] = []
        for (experiment, unit), decision in zip(asked, decisions, strict=True):
            offers = in_force[experiment]
            hashed, mark = hash_and_mark(offers, experiment, unit, decision)
            sets.append(offers)
            marks.append(mark)
            if hashed is None:
                numbers.append(self._draw(offers))
            else:
                numbers.append(None)
                pickers.append(offers.picker)
                hashes.append(hashed)
        picked = iter(pick_each(pickers, hashes))
        chosen = [
            offers.offers[next(picked) if number is None else number]
            for offers, number in zip(sets, numbers, strict=True)
        ]
        texts = self.signer.sign_each(decisions, [offer.packed_terms for offer in chosen], marks)
        for offer, decision, mark in zip(chosen, decisions, marks, strict=True):
            self._counter.count(offer, decision, mark)
        if any(offers.has_shadows for offers in in_force.values()):
            shadows = map(self._shadows_of, chosen, decisions, marks)
            return list(map(Choice, chosen, texts, shadows))
        return list(map(Choice, chosen, texts))

    def choose_within(self, experiment: CompiledExperiment, question: Question) -> Choice:
        """Return the answer to a question that names arms or an earlier decision as well."""
        mark = experiment.mark_unit(question.unit.encode()) if question.unit else NO_UNIT
        age = self._snapshot.age_seconds
        is_stale = self._is_stale(experiment, age)
        pinned = None if is_stale else self._find_pinned(experiment, question, mark)
        if pinned is not None:
            return pinned
        is_certain = experiment.certain_reason is not None or is_stale
        if is_certain or not question.eligible_arms:
            return self.choose(experiment, question.unit)
        is_confirmed = age <= self._lag and self._clock.confirms_decisions
        basis = Basis.RESTRICTED if is_confirmed else Basis.UNCONFIRMED
        offers = experiment.offers_among(basis, question.eligible_arms)
        if offers is None:
            offers = experiment.fallback(Reason.NO_ELIGIBLE_ARM)
        return self._choose_from(offers, experiment, question.unit)

    def _basis(self) -> Basis | None:
        """Return the basis of decisions made now; None if the snapshot is too old for any."""
        age = self._snapshot.age_seconds
        if age <= self._lag and self._clock.confirms_decisions:
            return Basis.POLICY
        return Basis.UNCONFIRMED if age <= self._max_staleness else None

    def _in_force(self, experiment: CompiledExperiment, basis: Basis | None) -> OfferSet:
        """Return the offers to choose from."""
        if experiment.certain_reason is not None:
            return experiment.fallback(experiment.certain_reason)
        if basis is not Basis.POLICY and (
            basis is None or self._is_stale(experiment, self._snapshot.age_seconds)
        ):
            return experiment.fallback(Reason.STALE)
        return experiment.offers(basis)

    def _is_stale(self, experiment: CompiledExperiment, age: float) -> bool:
        """Return whether a snapshot is too old for any share; a launch's bound counts from the lag on."""
        return age > self._max_staleness or (age > self._lag and age > experiment.max_staleness)

    def _choose_from(self, offers: OfferSet, experiment: CompiledExperiment, unit: str) -> Choice:
        decision = self._ids.make(self._clock.time_ms())
        hashed, mark = hash_and_mark(offers, experiment, unit, decision)
        offer = offers.offers[self._draw(offers) if hashed is None else offers.picker.pick(hashed)]
        text = self.signer.sign(decision, offer.packed_terms, mark)
        self._counter.count(offer, decision, mark)
        if offer.shadows:
            return Choice(offer, text, self._shadows_of(offer, decision, mark))
        return Choice(offer, text)

    def _shadows_of(self, offer: Offer, decision: bytes, mark: bytes) -> Sequence[ShadowChoice]:
        """Return who sees a decision in shadow, each with its own decision, counted in the same flush."""
        sample = sample_of(decision) if offer.shadows else 0
        shadows: list[ShadowChoice] = []
        for shadow in offer.shadows:
            if sample < shadow.threshold:
                own = shadow_id(decision, shadow.terms.arm)
                shadows.append(ShadowChoice(shadow, self.signer.sign(own, shadow.packed_terms, mark)))
                self._counter.count(shadow, own, NO_UNIT)
        return shadows

    def _draw(self, offers: OfferSet) -> int:
        return offers.picker.draw(self._generator.random())

    def _find_pinned(self, experiment: CompiledExperiment, question: Question, mark: bytes) -> Choice | None:
        """Return the earlier decision, if it still holds."""
        if not question.previous_decision_id or experiment.certain_reason is not None:
            return None
        try:
            decision = self.signer.read(question.previous_decision_id)
        except InvalidDecisionError:
            return None
        terms = decision.terms
        if terms.experiment != experiment.record.number or not _is_of_unit(experiment, decision, mark):
            return None
        if terms.basis not in _PINNABLE or not self._is_open(experiment, decision):
            return None
        offer = experiment.pinned(terms)
        if offer is None or (question.eligible_arms and offer.arm.id not in question.eligible_arms):
            return None
        return Choice(offer, question.previous_decision_id)

    def _is_open(self, experiment: CompiledExperiment, decision: Decision) -> bool:
        """Return whether a decision's windows are open; without windows, whether outcomes are still accepted.

        A decision from the future was dated by a wrong clock, so its age is unknown.
        """
        declared = experiment.record.experiment
        life = declared.longest_window or declared.max_decision_age
        age_ms = self._clock.time_ms() - decision.decided_ms
        return -MOST_AHEAD_MS <= age_ms <= life.total_seconds() * 1000


def hash_and_mark(
    offers: OfferSet, experiment: CompiledExperiment, unit: str, decision: bytes
) -> tuple[int | None, bytes]:
    """Return the hash that picks the arm, None to draw at random, and the mark of the decision's unit.

    Where units are counted, a lone decision is its own unit.
    """
    if offers.is_certain:
        return None, NO_UNIT
    if unit:
        encoded = unit.encode()
        return experiment.hash_unit(encoded), experiment.mark_unit(encoded)
    return None, hash_lone_decision(experiment.salt, decision) if experiment.counts_units else NO_UNIT


def _is_of_unit(experiment: CompiledExperiment, decision: Decision, mark: bytes) -> bool:
    """Return whether the decision was made for the unit with this mark, or without a unit for `NO_UNIT`."""
    if mark == NO_UNIT and experiment.counts_units and decision.unit_hash != NO_UNIT:
        return decision.unit_hash == hash_lone_decision(experiment.salt, decision.id)
    return decision.unit_hash == mark


_PINNABLE = frozenset({Basis.POLICY, Basis.RESTRICTED, Basis.UNCONFIRMED})
