"""Cost of shadow arms in Choose: `python -m benchmarks.shadows`.

Times the service's own Choose, in process, as it was before there were shadows, without shadow arms, and with
one, two and three of them that see every decision, in alternating rounds, so that other work of the machine
affects all alike.
"""

import argparse
from typing import Final

from typing_extensions import override

from benchmarks.harness.choosers import make_chooser
from benchmarks.unit_rows import N_UNITS, time_round
from server.services.choose.chooser import Choice, Chooser, hash_and_mark
from server.services.snapshot.offers import CompiledExperiment, OfferSet

_MOST_SHADOWS: Final = 3


class _ShadowlessChooser(Chooser):
    """Answers as releases before 0.3.0 did, which do not look for shadows."""

    @override
    def _choose_from(self, offers: OfferSet, experiment: CompiledExperiment, unit: str) -> Choice:
        decision = self._ids.make(self._clock.time_ms())
        hashed, mark = hash_and_mark(offers, experiment, unit, decision)
        offer = offers.offers[self._draw(offers) if hashed is None else offers.picker.pick(hashed)]
        text = self.signer.sign(decision, offer.packed_terms, mark)
        self._counter.count(offer, decision, mark)
        return Choice(offer, text)


def measure(n_rounds: int) -> None:
    """Print the least time of a call in any round, which noise only adds to, and its ratio to the first."""
    units = [f"user-{number}" for number in range(N_UNITS)]
    choosers = {"shadows not looked for": make_chooser(1, kind=_ShadowlessChooser)}
    choosers |= {f"{n} shadow arms": make_chooser(1, n_shadows=n) for n in range(_MOST_SHADOWS + 1)}
    least = dict.fromkeys(choosers, float("inf"))
    for _ in range(n_rounds):
        for name, (chooser, experiment) in choosers.items():
            least[name] = min(least[name], time_round(chooser, experiment, units))
    print(f"{n_rounds} alternating rounds of {N_UNITS:,} calls, the least of each")
    first = next(iter(least.values()))
    for name, microseconds in least.items():
        print(f"{name:22} {microseconds:6.2f} us a Choose   x {microseconds / first:.3f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shadows", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="alternating rounds of 1,000 calls (400)")
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
