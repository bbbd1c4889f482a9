"""The rows of the throughput benchmark, and what the design aims at in each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.harness.experiments import named
from benchmarks.harness.workloads import BatchChooses, BatchRewards, Chooses, Rewards, Workload

N_ARMS: Final = (2, 10, 100)
CALLERS: Final = 64
BATCH_CALLERS: Final = 4
_MOST_REWARDS_A_SECOND: Final = 15_000
_MOST_REWARD_BATCHES_A_SECOND: Final = 60
_WARM_UP_BATCHES: Final = 12
_SHARES_OF_ARMS: Final = {2: 0.5, 10: 0.4, 100: 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        title: The method called.
        setting: Arms or units, and the number of experiments.
        workload: The requests sent.
        n_callers: The number of concurrent callers.
        aim: What the design aims at.
    """

    title: str
    setting: str
    workload: Workload
    n_callers: int
    aim: str = ""


def few_experiments() -> dict[int, Sequence[str]]:
    """Map number of arms to names: one experiment of each."""
    return {n_arms: named(n_arms, 1) for n_arms in N_ARMS}


def many_experiments(n_experiments: int) -> dict[int, Sequence[str]]:
    """Map number of arms to names: half of the experiments have 2 arms, four tenths 10, a tenth 100."""
    return {n_arms: named(n_arms, round(n_experiments * share)) for n_arms, share in _SHARES_OF_ARMS.items()}


def choose_rows(names_of_arms: Mapping[int, Sequence[str]]) -> Iterator[Row]:
    """Return Choose with and without a unit at each number of arms; calls are spread over its experiments."""
    for has_unit in (True, False):
        for n_arms, names in names_of_arms.items():
            yield Row(
                title=f"Choose, {n_arms} arms",
                setting=f"{'unit' if has_unit else 'chance'}, {_experiments(names_of_arms)}",
                workload=Chooses(experiments=names, has_unit=has_unit),
                n_callers=CALLERS,
                aim="≥ 0.9",
            )


def other_rows(names_of_arms: Mapping[int, Sequence[str]], round_seconds: float) -> Iterator[Row]:
    """Return one caller's Choose, batches of Choose, rewards one by one and in batches, with 10 arms."""
    names = names_of_arms[10]
    setting = f"10 arms, {_experiments(names_of_arms)}"
    yield Row(
        title="Choose, one caller",
        setting=setting,
        workload=Chooses(experiments=names, has_unit=True),
        n_callers=1,
    )
    yield Row(
        title="BatchChoose(1,000)",
        setting=setting,
        workload=BatchChooses(experiments=names),
        n_callers=BATCH_CALLERS,
        aim="≥ 100k/s",
    )
    yield Row(
        title="Reward",
        setting=setting,
        workload=Rewards(experiments=names, n_calls=round(_MOST_REWARDS_A_SECOND * round_seconds)),
        n_callers=CALLERS,
        aim="≥ 0.6",
    )
    n_batches = _WARM_UP_BATCHES + round(_MOST_REWARD_BATCHES_A_SECOND * round_seconds)
    yield Row(
        title="BatchReward(1,000)",
        setting=setting,
        workload=BatchRewards(experiments=names, n_calls=n_batches),
        n_callers=BATCH_CALLERS,
        aim="≥ 30k/s",
    )


def profile_rows(names_of_arms: Mapping[int, Sequence[str]], seconds: float) -> Iterator[Row]:
    """Return one row for each of the four methods."""
    _, choose, *_ = choose_rows(names_of_arms)
    _, *others = other_rows(names_of_arms, seconds)
    yield from (choose, *others)


def _experiments(names_of_arms: Mapping[int, Sequence[str]]) -> str:
    if all(len(names) == 1 for names in names_of_arms.values()):
        return "1 experiment"
    return f"{sum(map(len, names_of_arms.values())):,} experiments"
