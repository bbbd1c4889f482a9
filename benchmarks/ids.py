"""What making the id of a decision costs, beside all of Choose, in this process and without a network.

`python -m benchmarks.ids` compares ids that name their run and flush with ids of 74 random bits, in turns:
the maker alone, and Choose with either maker.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import click
from typing_extensions import override

from bandit.decision_id import Signer, new_id
from bandit.experiment import Arm, Experiment
from bandit.facts import Epoch
from bandit.metric import Metric
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.choose.decision_ids import IdMaker
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment
from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, ExperimentRecord, LiveExperiment, State

_N_CALLS: Final = 20_000
_N_ARMS: Final = 10
_STARTED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


class _RandomIds(IdMaker):
    """The ids of releases before 0.3.0."""

    @override
    def make(self, now_ms: int) -> bytes:
        return new_id(now_ms, self._generator.getrandbits(74))


def _experiment() -> tuple[ExperimentRecord, Epoch]:
    arms = tuple(Arm(id=f"arm-{number}") for number in range(_N_ARMS))
    declared = Experiment(
        name="ids",
        arms=arms,
        champion="arm-0",
        metrics=(Metric(name="click"),),
        reward_metric="click",
        salt=bytes(16),
    )
    draft = ExperimentRecord.draft(declared, _STARTED_AT)
    record = replace(draft, number=1, state=State.RUNNING, revision=2, started_at=_STARTED_AT)
    epoch = Epoch(
        experiment=1,
        segment=0,
        number=1,
        nonce=7,
        revision=2,
        started_at=_STARTED_AT,
        champion=0,
        shares=dict.fromkeys(range(_N_ARMS), 1 / _N_ARMS),
    )
    return record, epoch


def _chooser(maker: type[IdMaker]) -> tuple[Chooser, CompiledExperiment]:
    clock = Clock()
    snapshot = Snapshot(clock)
    record, epoch = _experiment()
    snapshot.apply(Changes((LiveExperiment(record, epoch),), frozenset(), 1), clock.monotonic())
    compiled = snapshot.find("ids")
    assert compiled is not None  # noqa: S101 - it was put there
    counter = DecisionCounter(Writer(bytes(16), 0))
    signer = Signer({1: bytes(32)}, 1)
    chooser = Chooser(
        snapshot, signer, counter, clock, lag_seconds=3600.0, max_staleness_seconds=7200.0, id_maker=maker
    )
    return chooser, compiled


def _microseconds(work: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    for _ in range(_N_CALLS):
        work()
    return (time.perf_counter() - began_at) / _N_CALLS * 1e6


def _make(maker: type[IdMaker]) -> Callable[[], object]:
    ids = maker(DecisionCounter(Writer(bytes(16), 0)), random.Random(7))
    clock = Clock()
    return lambda: ids.make(clock.time_ms())


def _choose(maker: type[IdMaker]) -> Callable[[], object]:
    chooser, compiled = _chooser(maker)
    return lambda: chooser.choose(compiled, "user-1")


@click.command()
@click.option("--rounds", default=30, show_default=True, help="Rounds of each, in turns.")
def main(rounds: int) -> None:
    """Print the cost of an id and of Choose with 74 random bits and with named bits, and the ratio."""
    for title, of in (("id", _make), ("Choose", _choose)):
        before, after = of(_RandomIds), of(IdMaker)
        pairs = [(_microseconds(before), _microseconds(after)) for _ in range(rounds)]
        ratio = statistics.median(new / old for old, new in pairs)
        old, new = (statistics.median(side) for side in zip(*pairs, strict=True))
        click.echo(f"{title}: random {old:.2f} us, named {new:.2f} us, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
