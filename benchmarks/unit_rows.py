"""Cost of counting units in Choose: `python -m benchmarks.unit_rows`.

Times the service's own Choose, in process, on one experiment of each analysis unit and on one whose callers
name no unit, in alternating rounds, so that other work of the machine affects all alike. Flushing is timed
separately: it happens once a second, in portions, and in the store's thread.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from bandit.decision_id import NO_UNIT
from bandit.experiment import AnalysisUnit
from benchmarks.harness.choosers import make_chooser, make_counter
from server.services.choose.chooser import Chooser
from server.services.choose.decision_counter import DecisionCounter
from server.services.snapshot.offers import CompiledExperiment, Offer
from server.store.tables.units import rows_of

N_UNITS: Final = 1_000
"""Calls a round: few, so that a round is short compared with other work of the machine."""


class PlainCounter(DecisionCounter):
    """Counts decisions and no units: what Choose would cost without counting units."""

    @override
    def count(self, offer: Offer, decision: bytes, mark: bytes) -> None:
        super().count(offer, decision, NO_UNIT)


def time_round(chooser: Chooser, experiment: CompiledExperiment, units: Sequence[str]) -> float:
    """Return the microseconds a Choose takes, over one round."""
    choose = chooser.choose
    started_at = time.perf_counter()
    for unit in units:
        choose(experiment, unit)
    return (time.perf_counter() - started_at) / len(units) * 1e6


def measure(n_rounds: int) -> None:
    """Print the least time of a call in any round, which noise only adds to, and its ratio to the first."""
    units = [f"user-{number}" for number in range(N_UNITS)]
    cases = {
        "units not looked at": (make_counter(PlainCounter), AnalysisUnit.DECISION, units),
        "decisions counted": (make_counter(), AnalysisUnit.DECISION, units),
        "units counted, all new": (make_counter(), AnalysisUnit.UNIT, units),
        "units counted, each ten times": (make_counter(), AnalysisUnit.UNIT, units[:100] * 10),
    }
    choosers = {name: make_chooser(unit=unit, counter=counter) for name, (counter, unit, _) in cases.items()}
    least = dict.fromkeys(cases, float("inf"))
    sorting = float("inf")
    for _ in range(n_rounds):
        for name, (counter, _, asked) in cases.items():
            least[name] = min(least[name], time_round(*choosers[name], asked))
            unsent = counter.next_flush()
            if unsent is not None:
                flush = unsent.add_up()
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
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unit_rows", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="alternating rounds of 1,000 calls (400)")
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
