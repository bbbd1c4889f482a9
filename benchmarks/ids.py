"""Cost of making a decision id, alone and within Choose, in this process and without a network.

`python -m benchmarks.ids` compares ids that name their run and flush with ids of 74 random bits, in turns:
the maker alone, and Choose with either maker.
"""

import random
import statistics
import time
from collections.abc import Callable
from typing import Final

import click
from typing_extensions import override

from bandit.decision_id import new_id
from benchmarks.harness.choosers import make_chooser, make_counter
from server.services.choose.decision_ids import IdMaker
from server.services.runtime.clock import Clock

_N_CALLS: Final = 20_000
_N_ARMS: Final = 10


class _RandomIds(IdMaker):
    """The ids of releases before 0.3.0."""

    @override
    def make(self, now_ms: int) -> bytes:
        return new_id(now_ms, self._generator.getrandbits(74))


def _microseconds(work: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    for _ in range(_N_CALLS):
        work()
    return (time.perf_counter() - began_at) / _N_CALLS * 1e6


def _make(maker: type[IdMaker]) -> Callable[[], object]:
    ids = maker(make_counter(), random.Random(7))
    clock = Clock()
    return lambda: ids.make(clock.time_ms())


def _choose(maker: type[IdMaker]) -> Callable[[], object]:
    chooser, compiled = make_chooser(_N_ARMS, id_maker=maker)
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
