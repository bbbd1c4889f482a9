"""Conversion of launches to messages, and of verbs' arguments from them."""

from collections.abc import Mapping
from typing import Final

from bandit.launch.claims import ClaimKind, LaunchClaim
from bandit.launch.gates import Gate, Hold, HoldCause
from bandit.launch.state import ArmLaunch, ArmState
from bandit.v1 import launch_pb2
from server.rpc.messages.experiment import to_etag
from server.rpc.messages.plan import MODES
from server.rpc.messages.times import to_timestamp
from server.services.launch.verbs import VerbArguments
from server.services.reports.launch.view import ArmView, LaunchView
from server.store.records import ExperimentRecord

_STATES: Final[Mapping[ArmState, "launch_pb2.ArmLaunchState.ValueType"]] = {
    state: launch_pb2.ArmLaunchState.Value(f"ARM_LAUNCH_STATE_{state.value.upper()}") for state in ArmState
}
_CAUSES: Final[Mapping[HoldCause, "launch_pb2.LaunchHoldCause.ValueType"]] = {
    cause: launch_pb2.LaunchHoldCause.Value(f"LAUNCH_HOLD_CAUSE_{cause.value.upper()}") for cause in HoldCause
}
_KINDS: Final[Mapping[ClaimKind, "launch_pb2.LaunchClaimKind.ValueType"]] = {
    kind: launch_pb2.LaunchClaimKind.Value(f"LAUNCH_CLAIM_KIND_{kind.value.upper()}") for kind in ClaimKind
}


def to_arguments(verb: launch_pb2.LaunchVerb) -> VerbArguments:
    """Return the arguments in a message."""
    return VerbArguments(
        name=verb.name,
        arm=verb.arm,
        reason=verb.reason,
        request_id=verb.request_id,
        entry=verb.entry,
        validate_only=verb.validate_only,
    )


def to_launch(
    record: ExperimentRecord, view: LaunchView, *, validated_only: bool = False
) -> launch_pb2.Launch:
    """Return the message of a launch."""
    return launch_pb2.Launch(
        name=record.name,
        champion=view.champion,
        former_champion=view.former_champion or "",
        etag=to_etag(record.revision),
        mode=MODES[view.mode],
        sentence=view.sentence,
        arms=[_to_arm(arm) for arm in view.arms],
        validated_only=validated_only,
    )


def _to_visit(arm_id: str, launch: ArmLaunch) -> launch_pb2.ArmLaunch:
    """Return the message of where an arm is."""
    return launch_pb2.ArmLaunch(
        arm=arm_id,
        state=_STATES[launch.state],
        step=launch.current.label if launch.current is not None else "",
        step_number=launch.step + 1 if launch.current is not None else 0,
        n_steps=len(launch.steps),
        entry=launch.entry,
        enter_time=to_timestamp(launch.entered_at),
        reason=launch.reason,
    )


def _to_arm(view: ArmView) -> launch_pb2.ArmLaunch:
    message = _to_visit(view.arm, view.launch)
    message.share, message.sentence, message.next = view.share, view.sentence, view.next
    message.holds.extend(_to_hold(hold, sentence) for hold, sentence in view.holds)
    message.gates.extend(_to_gate(gate, sentence) for gate, sentence in view.gates)
    message.claims.extend(_to_claim(claim, sentence) for claim, sentence in view.claims)
    if view.next_at is not None:
        message.next_time.CopyFrom(to_timestamp(view.next_at))
    return message


def _to_hold(hold: Hold, sentence: str) -> launch_pb2.LaunchHold:
    return launch_pb2.LaunchHold(cause=_CAUSES[hold.cause], sentence=sentence, metric=hold.metric)


def _to_gate(gate: Gate, sentence: str) -> launch_pb2.LaunchGate:
    return launch_pb2.LaunchGate(
        name=gate.name,
        figure=gate.figure,
        threshold=gate.threshold,
        is_open=gate.is_open,
        open_time=None if gate.opens_at is None else to_timestamp(gate.opens_at),
        sentence=sentence,
    )


def _to_claim(claim: LaunchClaim, sentence: str) -> launch_pb2.LaunchClaim:
    message = launch_pb2.LaunchClaim(
        metric=claim.metric,
        kind=_KINDS[claim.kind],
        log_e_value=claim.log_e_value,
        log_level=claim.log_level,
        is_established=claim.is_established,
        sentence=sentence,
    )
    if claim.pairs is not None:
        pairs = claim.pairs
        message.pairs.CopyFrom(
            launch_pb2.ShadowPairs(
                pairs=pairs.n,
                shadow_mean=pairs.shadow,
                champion_mean=pairs.champion,
                lower=pairs.lower,
                upper=pairs.upper,
            )
        )
    return message
