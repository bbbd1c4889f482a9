"""Sources of shares that several groups of cells have in common."""

from typing import Final

from benchmarks.validity.worlds.histories import Shaping


def split_evenly(n_arms: int) -> Shaping:
    """Return an even static split."""
    return Shaping(floors=(1 / n_arms,) * n_arms, fixed=(1 / n_arms,) * n_arms)


FLOORS: Final = {
    "50/50": split_evenly(2),
    "floors 20/5": Shaping(floors=(0.2, 0.05)),
    "floors 5/5": Shaping(floors=(0.05, 0.05)),
    "floors 1/1": Shaping(floors=(0.01, 0.01)),
}
EVEN_FIVE: Final = split_evenly(5)
FIVE: Final = Shaping(floors=(0.2, 0.05, 0.05, 0.05, 0.05))
