"""Arms that answer at exactly their rates, so that chance has no part in what is found about them."""

from collections import Counter
from collections.abc import Callable, Mapping

Answer = Callable[[str], Mapping[str, float]]
"""Returns the outcomes of the next decision for an arm, by metric."""


def answering(**rates: Mapping[str, float]) -> Answer:
    """Return arms of these rates of yes, metric to arm to rate."""
    asked: Counter[str] = Counter()

    def answer(arm: str) -> dict[str, float]:
        asked[arm] += 1
        n = asked[arm]
        return {
            metric: float(int(n * rate[arm]) > int((n - 1) * rate[arm]))
            for metric, rate in rates.items()
            if arm in rate
        }

    return answer
