"""Launch plans as messages."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from bandit.v1 import launch_pb2


def full_plan() -> launch_pb2.LaunchPlan:
    """Return a plan with every field set, and none to its default."""
    asks: dict[str, Any] = {
        "minimum_decisions": 1_000,
        "minimum_outcomes": 500,
        "minimum_duration": Duration(seconds=3_600),
        "whole_cycles": 1,
        "approval": True,
        "maximum_duration": Duration(seconds=14 * 86_400),
    }
    plan = launch_pb2.LaunchPlan(
        stages=[
            launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_CANARY, share=0.01, **asks),
            launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_RAMP, shares=[0.05, 0.1], **asks),
            launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT, **asks),
        ],
        mode=launch_pb2.LAUNCH_MODE_AUTOMATIC,
        cycle=Duration(seconds=86_400),
        minimum_cycles=3,
        holdback=launch_pb2.LaunchHoldback(share=0.05, cycles=2),
        guardrail_action=launch_pb2.GUARDRAIL_ACTION_RECOMMEND,
        on_no_data=launch_pb2.ON_TROUBLE_ROLLBACK,
        on_sample_ratio_alarm=launch_pb2.ON_TROUBLE_ROLLBACK,
        on_inconclusive=launch_pb2.ON_INCONCLUSIVE_HOLD,
        after_holdback=launch_pb2.AFTER_HOLDBACK_CONCLUDE,
        least_lift=0.01,
        max_staleness=Duration(seconds=90),
    )
    assert len(plan.ListFields()) == len(launch_pb2.LaunchPlan.DESCRIPTOR.fields)
    return plan
