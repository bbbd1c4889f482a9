"""Epochs: an experiment's first one, and the next one from the facts so far."""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from bandit.allocation import Allocation, ExperimentState, allocate
from bandit.experiment import SEGMENT_ALL
from bandit.facts import Epoch, Facts
from bandit.facts.units import SteeringFacts
from server.store.records import ExperimentFacts, ExperimentRecord

_NOTHING: Final = Facts(decisions={}, outcomes={})


def state_of(
    record: ExperimentRecord,
    epochs: tuple[Epoch, ...],
    facts: Facts,
    lag: timedelta,
    now: datetime,
    steering: Mapping[int, SteeringFacts] | None = None,
) -> ExperimentState:
    """Return the state that an experiment's shares depend on.

    Args:
        record: The experiment.
        epochs: Its epochs, in order.
        facts: What was counted.
        lag: How long a replica may go on with an epoch after its end.
        now: The moment.
        steering: Metric number to what units steer with; None where decisions are counted.
    """
    return ExperimentState(
        experiment=record.experiment,
        arm_numbers=record.arm_numbers,
        metric_numbers=record.metric_numbers,
        epochs=epochs,
        facts=facts,
        lag=lag,
        now=now,
        steering=steering,
        launch=record.launch,
        taken_priors=record.taken_priors,
    )


def new_epoch(record: ExperimentRecord, before: Epoch | None, allocation: Allocation, now: datetime) -> Epoch:
    """Return an epoch with these shares to follow `before`, if any; a cap if that one is in the future."""
    started_at, is_cap = (now, False) if before is None else before.start_of_next(now)
    return Epoch(
        experiment=record.number,
        segment=SEGMENT_ALL,
        number=1 if before is None else before.number + 1,
        nonce=secrets.randbits(32),
        revision=record.revision,
        started_at=started_at,
        champion=record.arm_numbers[record.experiment.champion],
        shares=allocation.shares,
        warming_up=allocation.warming_up,
        means=allocation.means,
        is_cap=is_cap,
        shadows=allocation.shadows,
    )


def first_allocation(
    record: ExperimentRecord,
    found: ExperimentFacts | None,
    lag: timedelta,
    now: datetime,
    steering: Mapping[int, SteeringFacts] | None = None,
) -> Allocation:
    """Return the shares with which an experiment starts, or continues under a changed configuration."""
    epochs, facts = ((), _NOTHING) if found is None else (found.epochs, found.facts)
    return allocate(state_of(record, epochs, facts, lag, now, steering))
