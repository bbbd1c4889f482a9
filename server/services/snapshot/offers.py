"""Offers: the constant parts of Choose's answers, compiled once per epoch."""

import enum
import math
from collections.abc import Collection, Iterator
from typing import Final

from bandit.assignment import Picker, UnitHasher
from bandit.decision_id import Basis, DecisionTerms, UnitMarker
from bandit.experiment import SEGMENT_ALL, AnalysisUnit, Arm
from bandit.facts import DecisionKey, Epoch
from bandit.facts.parts import is_split
from bandit.launch.shadow_id import N_SAMPLES, seen_part, threshold_of
from bandit.launch.state import ON_ITS_WAY, ArmState
from server.store.records import ExperimentRecord, State

_MAX_SUBSETS = 256
"""The most sets of eligible arms that an epoch keeps compiled."""


class Reason(enum.StrEnum):
    """The reason for choosing an arm."""

    POLICY = "policy"
    WARM_UP = "warm-up"
    PINNED = "pinned"
    PAUSED = "paused"
    CONCLUDED = "concluded"
    STALE = "stale"
    NO_ELIGIBLE_ARM = "no eligible arm"


_CERTAIN: Final = {
    State.DRAFT: Reason.PAUSED,
    State.PAUSED: Reason.PAUSED,
    State.CONCLUDED: Reason.CONCLUDED,
}


class CountedKey:
    """The key under which decisions are counted, compared by identity, which costs Choose less than by value.

    All offers of an arm and basis in one epoch share it, so that a caller who keeps naming other sets of arms
    adds no counts while the store is away.

    Attributes:
        key: The key.
        keeps_parts: Whether decisions are counted by part: policy decisions of a first epoch.
    """

    __slots__ = ("keeps_parts", "key")

    def __init__(self, key: DecisionKey) -> None:
        self.key = key
        self.keeps_parts = is_split(key.epoch, key.basis)


class Offer:
    """An arm that may be chosen, and the terms of that decision.

    Args:
        arm: As below.
        reason: As below.
        terms: As below.
        counted: As below; one of its own if it is left out.
        counts_units: Whether evidence counts units.

    Attributes:
        arm: The arm, as declared.
        reason: Why it would be chosen.
        terms: The terms of the decision.
        packed_terms: The terms as in the decision id.
        counted: What the decision is counted under.
        keeps_units: Whether units get rows: those of policy decisions, where units are counted.
        keeps_groups: Whether policy decisions are counted by group of units, where decisions are counted.
        encoded: A cache of the transport's encoding of the offer; no service reads it.
        shadows: The arms that may see such decisions in shadow: only of the champion's policy decisions.
    """

    __slots__ = (
        *("arm", "counted", "encoded", "keeps_groups", "keeps_units"),
        *("packed_terms", "reason", "shadows", "terms"),
    )

    def __init__(
        self,
        arm: Arm,
        reason: Reason,
        terms: DecisionTerms,
        *,
        counted: CountedKey | None = None,
        counts_units: bool = False,
    ) -> None:
        self.arm = arm
        self.reason = reason
        self.terms = terms
        self.packed_terms = terms.pack()
        self.counted = CountedKey(_key_of(terms)) if counted is None else counted
        self.keeps_units = counts_units and terms.basis is Basis.POLICY
        self.keeps_groups = not counts_units and terms.basis is Basis.POLICY
        self.encoded: bytes | None = None
        self.shadows: tuple[ShadowOffer, ...] = ()

    @property
    def key(self) -> DecisionKey:
        """The key under which the decision is counted."""
        return self.counted.key


class ShadowOffer(Offer):
    """An arm that sees decisions in shadow, and the terms of what it sees.

    Args:
        arm: The arm, as declared.
        terms: The terms, whose propensity is the exact probability with which a decision is seen.
        threshold: As below.

    Attributes:
        threshold: A decision is seen if its sample bits are below this.
    """

    __slots__ = ("threshold",)

    def __init__(self, arm: Arm, terms: DecisionTerms, threshold: int) -> None:
        super().__init__(arm, Reason.POLICY, terms)
        self.threshold = threshold


def _key_of(terms: DecisionTerms) -> DecisionKey:
    return DecisionKey(terms.experiment, terms.epoch, terms.segment, terms.arm, terms.basis)


class OfferSet:
    """The offers of an epoch for one basis, and the picker among them.

    Attributes:
        picker: Picks an index by unit or by chance.
        offers: The offer at each index.
        is_certain: Whether the answer is the same for every unit; its decisions then have no unit mark.
        has_shadows: Whether any of the offers may be seen in shadow.
    """

    __slots__ = ("has_shadows", "is_certain", "offers", "picker")

    def __init__(self, picker: Picker, offers: tuple[Offer, ...], *, is_certain: bool = False) -> None:
        self.picker = picker
        self.offers = offers
        self.is_certain = is_certain
        self.has_shadows = any(offer.shadows for offer in offers)


class CompiledExperiment:
    """One experiment in one epoch, compiled for answering.

    Args:
        record: The experiment.
        epoch: Its epoch in force.

    Attributes:
        certain_reason: Why the answer is certain; None while shares decide.
        max_staleness: Seconds after which the shares of an old snapshot are not to be used; infinite unless a
            launch sends requests to an arm, which may be rolled back at any time.
    """

    __slots__ = (
        *(
            "_counted",
            "_fallbacks",
            "_in_service",
            "_sets",
            "arms",
            "certain_reason",
            "counts_units",
            "epoch",
            "max_staleness",
        ),
        *("hash_unit", "mark_unit", "record", "salt", "state"),
    )

    def __init__(self, record: ExperimentRecord, epoch: Epoch) -> None:
        self.record = record
        self.epoch = epoch
        self.state = record.state
        self.certain_reason = _CERTAIN.get(record.state, Reason.STALE if record.unknown else None)
        self.max_staleness = _max_staleness(record)
        self.salt = record.experiment.salt
        self.hash_unit = UnitHasher(self.salt)
        self.mark_unit = UnitMarker(self.salt)
        self.counts_units = record.experiment.analysis_unit is AnalysisUnit.UNIT
        self.arms = {arm.id: arm for arm in record.experiment.arms}
        self._in_service = record.arms_in_service
        self._sets: dict[tuple[Basis, frozenset[str] | None], OfferSet | None] = {}
        self._fallbacks: dict[Reason, OfferSet] = {}
        self._counted: dict[tuple[int, Basis], CountedKey] = {}

    def offers(self, basis: Basis) -> OfferSet:
        """Return the offers of all arms with a share."""
        found = self._sets.get((basis, None))
        if found is None:
            found = self._sets[basis, None] = self._compile(basis, self._shares())
        return found

    def offers_among(self, basis: Basis, eligible: Collection[str]) -> OfferSet | None:
        """Return the offers of those arms, in proportion to their shares; None if no such arm is in service.

        If the shares of those in service are all 0, they get even shares, since the caller can serve nothing
        else. If they are all arms in service, nothing is restricted, and the offers are those of all arms.

        Args:
            basis: `RESTRICTED`, or `UNCONFIRMED` where the epoch could not be confirmed in time.
            eligible: The arms that the caller can serve; ids that are not the experiment's are ignored.
        """
        subset = frozenset(eligible)
        if (basis, subset) not in self._sets:
            if len(self._sets) > _MAX_SUBSETS:
                self._sets.clear()
            self._sets[basis, subset] = self._offers_of(basis, subset)
        return self._sets[basis, subset]

    def _offers_of(self, basis: Basis, eligible: Collection[str]) -> OfferSet | None:
        in_service = {arm_id: share for arm_id, share in self._shares().items() if self.is_in_service(arm_id)}
        left = {arm_id: share for arm_id, share in in_service.items() if arm_id in eligible}
        if not left:
            return None
        if len(left) == len(in_service):
            return self.offers(Basis.POLICY if basis is Basis.RESTRICTED else basis)
        total = sum(left.values())
        scaled = {arm_id: share / total if total else 1 / len(left) for arm_id, share in left.items()}
        return self._compile(basis, scaled)

    def fallback(self, reason: Reason) -> OfferSet:
        """Return the certain answer: the winner once concluded, otherwise the champion.

        In a holdback, a stale snapshot's answer is the former champion: the new one may be rolled back.
        """
        found = self._fallbacks.get(reason)
        if found is None:
            offer = self._fallback_offer(reason)
            picker = Picker([offer.arm.id], [1.0])
            found = self._fallbacks[reason] = OfferSet(picker, (offer,), is_certain=True)
        return found

    def pinned(self, terms: DecisionTerms) -> Offer | None:
        """Return the offer of an earlier decision; None if its arm is no longer in service."""
        arm_id = next((a for a, number in self.record.arm_numbers.items() if number == terms.arm), "")
        return Offer(self.arms[arm_id], Reason.PINNED, terms) if self.is_in_service(arm_id) else None

    def is_in_service(self, arm_id: str) -> bool:
        """True if the experiment has this arm, and neither an operator nor its launch keeps it out."""
        return arm_id in self._in_service

    def _fallback_offer(self, reason: Reason) -> Offer:
        is_over = self.state is State.CONCLUDED and self.record.winner is not None
        arm_id = self.record.winner if is_over else self.record.experiment.champion
        if reason is Reason.STALE and self.certain_reason is None:
            arm_id = _holdback_arm(self.record) or arm_id
        return self._offer(str(arm_id), reason, Basis.FALLBACK, 1.0)

    def _shares(self) -> dict[str, float]:
        """Return declared arms to their shares; 0 for an arm that is not in the epoch yet."""
        numbers = self.record.arm_numbers
        return {arm_id: self.epoch.shares.get(numbers[arm_id], 0.0) for arm_id in self.arms}

    def _compile(self, basis: Basis, shares: dict[str, float]) -> OfferSet:
        picker = Picker(list(shares), list(shares.values()))
        offers = tuple(
            self._offer(arm_id, self._reason(arm_id), basis, shares[arm_id]) for arm_id in picker.arm_ids
        )
        if self.epoch.shadows and basis is Basis.POLICY:
            for offer in offers:
                if offer.terms.arm == self.epoch.champion:
                    offer.shadows = tuple(self._shadows())
        return OfferSet(picker, offers)

    def _shadows(self) -> Iterator[ShadowOffer]:
        """Yield what the arms in shadow are offered; the last number has no id to see a decision under."""
        for arm_id, arm in self.arms.items():
            number = self.record.arm_numbers[arm_id]
            sample = self.epoch.shadows.get(number, 0.0)
            if sample > 0 and not arm.is_taken_out and number < N_SAMPLES - 1:
                terms = self._terms(arm_id, Basis.SHADOW, seen_part(sample))
                yield ShadowOffer(arm, terms, threshold_of(sample))

    def _reason(self, arm_id: str) -> Reason:
        is_warming_up = self.record.arm_numbers[arm_id] in self.epoch.warming_up
        return Reason.WARM_UP if is_warming_up else Reason.POLICY

    def _terms(self, arm_id: str, basis: Basis, propensity: float) -> DecisionTerms:
        return DecisionTerms(
            experiment=self.record.number,
            epoch=self.epoch.number,
            nonce=self.epoch.nonce,
            segment=SEGMENT_ALL,
            arm=self.record.arm_numbers[arm_id],
            basis=basis,
            propensity=propensity,
        )

    def _offer(self, arm_id: str, reason: Reason, basis: Basis, propensity: float) -> Offer:
        terms = self._terms(arm_id, basis, propensity)
        counted = self._counted.get((terms.arm, basis))
        if counted is None:
            counted = self._counted[terms.arm, basis] = CountedKey(_key_of(terms))
        return Offer(self.arms[arm_id], reason, terms, counted=counted, counts_units=self.counts_units)


def _max_staleness(record: ExperimentRecord) -> float:
    plan, launch = record.experiment.launch, record.launch
    if plan is None or launch is None:
        return math.inf
    can_be_rolled_back = ON_ITS_WAY | {ArmState.PROMOTED}
    if all(arm.state not in can_be_rolled_back for arm in launch.arms.values()):
        return math.inf
    return plan.max_staleness.total_seconds()


def _holdback_arm(record: ExperimentRecord) -> str | None:
    """Return the former champion, while it keeps a holdback."""
    arms = {} if record.launch is None else record.launch.arms
    return next((arm_id for arm_id, arm in arms.items() if arm.state is ArmState.HOLDBACK), None)
