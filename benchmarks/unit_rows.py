"""What counting units costs a Choose: `python -m benchmarks.unit_rows`.

Times the service's own Choose, in process, on one experiment of each analysis unit and on one whose callers
name no unit, in alternating rounds, so that what else the machine does falls on all alike. Flushing is timed
apart: it happens once a second, in portions, and in the store's thread.
"""

import argparse
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from typing_extensions import override

from bandit.decision_id import NO_UNIT, Signer
from bandit.experiment import AnalysisUnit, Arm, Experiment
from bandit.facts import Epoch
from bandit.metric import Metric
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.runtime.clock import Clock
from server.services.runtime.writer import Writer
from server.services.snapshot.offers import CompiledExperiment, Offer
from server.services.snapshot.snapshot import Snapshot
from server.store.records import Changes, ExperimentRecord, LiveExperiment, State
from server.store.tables.units import rows_of

N_UNITS: Final = 1_000
"""Calls a round: few, so that a round is short beside what else the machine does."""


class _PlainCounter(DecisionCounter):
    """Counts decisions and nobody's unit: what Choose would cost without any of it."""

    @override
    def count(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        super().count(offer, decision, NO_UNIT)


def make_chooser(
    unit: AnalysisUnit, *, is_plain: bool, clock: Clock | None = None
) -> tuple[Chooser, CompiledExperiment, DecisionCounter]:
    """A chooser over one running experiment of two arms; by the host's clock if no other is given."""
    clock, now = clock or Clock(), datetime.now(UTC)
    arms = (Arm(id="v1"), Arm(id="v2"))
    declared = Experiment(
        name="ranker",
        arms=arms,
        champion="v1",
        metrics=(Metric(name="click"),),
        reward_metric="click",
        salt=secrets.token_bytes(16),
        analysis_unit=unit,
    )
    record = replace(ExperimentRecord.draft(declared, now), number=1, state=State.RUNNING, started_at=now)
    epoch = Epoch(
        experiment=1,
        segment=0,
        number=1,
        nonce=1,
        revision=1,
        started_at=now,
        champion=0,
        shares={0: 0.5, 1: 0.5},
    )
    snapshot = Snapshot(clock)
    snapshot.apply(Changes((LiveExperiment(record, epoch),), frozenset(), 1), clock.monotonic())
    writer = Writer(secrets.token_bytes(16), 0)
    counter = _PlainCounter(writer) if is_plain else DecisionCounter(writer)
    signer = Signer({1: secrets.token_bytes(32)}, 1)
    chooser = Chooser(snapshot, signer, counter, clock, lag_seconds=1e6, max_staleness_seconds=1e6)
    compiled = snapshot.find("ranker")
    if compiled is None:
        raise RuntimeError("the experiment that was put in is not in the snapshot")
    return chooser, compiled, counter


def time_round(chooser: Chooser, experiment: CompiledExperiment, units: Sequence[str]) -> float:
    """Microseconds a Choose takes, over one round."""
    choose = chooser.choose
    started_at = time.perf_counter()
    for unit in units:
        choose(experiment, unit)
    return (time.perf_counter() - started_at) / len(units) * 1e6


def measure(n_rounds: int) -> None:
    """Prints the least time of a call in any round, which noise only adds to, and its ratio to the first."""
    units = [f"user-{number}" for number in range(N_UNITS)]
    cases = {
        "units not looked at": (make_chooser(AnalysisUnit.DECISION, is_plain=True), units),
        "decisions counted": (make_chooser(AnalysisUnit.DECISION, is_plain=False), units),
        "units counted, all new": (make_chooser(AnalysisUnit.UNIT, is_plain=False), units),
        "units counted, each ten times": (make_chooser(AnalysisUnit.UNIT, is_plain=False), units[:100] * 10),
    }
    least = dict.fromkeys(cases, float("inf"))
    sorting = float("inf")
    for _ in range(n_rounds):
        for name, ((chooser, experiment, counter), asked) in cases.items():
            least[name] = min(least[name], time_round(chooser, experiment, asked))
            flush = counter.flush()
            if flush is not None:
                counter.settle(flush)
                started_at = time.perf_counter()
                n_rows = len(rows_of(flush))
                if n_rows == N_UNITS:
                    sorting = min(sorting, (time.perf_counter() - started_at) / n_rows * 1e6)
    print(f"{n_rounds} alternating rounds of {N_UNITS:,} calls, the least of each")
    for name, taken in least.items():
        print(f"{name:30} {taken:6.2f} us a Choose   x {taken / least['units not looked at']:.3f}")
    print(f"{'in the store thread':30} {sorting:6.2f} us a unit, to sort a flush")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unit_rows", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="alternating rounds of 1,000 calls (400)")
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
