"""Hints: what in a declaration makes evidence late, wide or impossible, and what to declare instead.

A hint is no violation: the experiment is valid and runs. Each is one sentence or two for people, and names
the field. Some follow from the declaration alone, others from what has come in.
"""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Final

from bandit.experiment import Experiment
from bandit.facts.fold import ArmObservations
from bandit.inference.data.floors import declared_floors
from bandit.inference.sequential.design import UNDECLARED_FLOOR
from bandit.inference.sequential.range_free import HEAVY
from bandit.metric import Metric
from bandit.policies import WeightedSplit
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import NormalInverseGammaPrior

_ENOUGH: Final = 30
"""Observations of an arm from which its mean is compared with the prior."""

_ENOUGH_EVENTS: Final = 5
"""Successes or events of an arm from which its mean is compared with the prior."""

_LEAST_CHANGE: Final = 1e-3
"""A prior that moves a mean by less than this part of it does no harm, however exact the mean is."""

_TRIM: Final = 10
"""Standard deviations above the mean at which a cap is suggested: few values of a usual tail lie beyond."""


def hints_on(experiment: Experiment, *, has_started: bool = False) -> list[str]:
    """Return the hints that follow from a declaration alone.

    Args:
        experiment: The declaration.
        has_started: Whether outcomes tell more about priors and ranges than the declaration does.
    """
    hints = [*_on_shares(experiment)]
    for metric in experiment.metrics:
        hints += _on_window(metric)
        if not has_started:
            hints += _on_prior(metric, steers=metric.name == experiment.reward_metric)
    return hints


def hints_from(
    metric: Metric,
    seen: Mapping[str, ArmObservations],
    taken: Mapping[str, OutcomeMoments],
    *,
    steers: bool,
) -> list[str]:
    """Return the hints that follow from the observations of a metric.

    Args:
        metric: The metric.
        seen: Arm id to observations.
        taken: Arm id to the discounted outcomes of another arm that its belief starts from.
        steers: Whether it is the reward metric, whose prior moves shares.
    """
    return [*(_from_far_prior(metric, seen, taken) if steers else ()), *_from_heavy_tail(metric, seen)]


def _on_shares(experiment: Experiment) -> Iterator[str]:
    floors = declared_floors(experiment)
    if len(floors) <= 1:
        return
    if isinstance(experiment.policy, WeightedSplit):
        idle = [arm for arm, share in floors.items() if share == 0]
        if idle:
            yield (
                f"policy.static_split.weights: {_listed(idle)} has a weight of 0 and gets no traffic, so "
                "nothing can be found out about it."
            )
        return
    if min(floors.values()) < UNDECLARED_FLOOR:
        few = [arm for arm, share in floors.items() if share < UNDECLARED_FLOOR]
        yield (
            f"limits.minimum_share: without one the policy may leave {_listed(few, 'or')} with next to no "
            "traffic, and then nothing can be shown about it. Declare minimum_share = 0.05, and 0.2 for the "
            "champion; `bandit-server plan` says how long a finding then takes."
        )


def _on_window(metric: Metric) -> Iterator[str]:
    if metric.window is None:
        but = " but that of harm" if metric.counts_early else ""
        yield (
            f"{metric.name} has no window, so there is no evidence on it{but}: a missing outcome never "
            "counts as silence. Declare how long an outcome may take."
        )


def _on_prior(metric: Metric, *, steers: bool) -> Iterator[str]:
    width = metric.maximum - metric.minimum
    prior = metric.effective_prior
    if not isinstance(prior, NormalInverseGammaPrior):
        return
    if metric.prior is None and steers:
        yield (
            f"{metric.name} has no prior, so belief starts at {prior.mean:g}, the middle of its range, with "
            "the weight of one observation. Declare one near what you expect, or the first shares follow it."
        )
    if metric.prior is not None and width > HEAVY * sqrt(prior.scale / prior.shape):
        yield _ask_for_cap(metric, prior.mean, sqrt(prior.scale / prior.shape), "its prior expects")


def _from_far_prior(
    metric: Metric, seen: Mapping[str, ArmObservations], taken: Mapping[str, OutcomeMoments]
) -> Iterator[str]:
    """Yield the arm whose posterior the prior moves most, if by more than chance moves its mean."""
    believed = {
        arm: metric.effective_prior.update(taken.get(arm, OutcomeMoments()).merge(observed.sums)).mean
        for arm, observed in seen.items()
    }
    moved: dict[str, float] = {}
    for arm, observed in seen.items():
        sums = observed.sums
        if sums.n < _ENOUGH or (not metric.is_real and sums.n * sums.mean < _ENOUGH_EVENTS):
            continue
        shift = abs(believed[arm] - sums.mean)
        error = sqrt(max(sums.centred_squares, 0.0)) / sums.n
        if shift > max(error, _LEAST_CHANGE * abs(sums.mean)):
            moved[arm] = shift
    if moved:
        arm = max(moved, key=lambda each: moved[each])
        mean = seen[arm].sums.mean
        whose, remedy = "the prior", f"Declare a prior near {mean:.2g} and apply."
        if arm in taken:
            whose = "the prior that it took from another arm"
            remedy = f"It is worth {taken[arm].n:,.4g} outcomes, which {arm} has to outweigh with its own."
        yield (
            f"{metric.name}: {whose} is far from what comes in: it moves the belief about {arm} from "
            f"{mean:.4g} to {believed[arm]:.4g}. Shares follow that. {remedy}"
        )


def _from_heavy_tail(metric: Metric, seen: Mapping[str, ArmObservations]) -> Iterator[str]:
    if metric.is_binary:
        return
    pooled = _pooled(seen)
    if pooled.n < _ENOUGH:
        return
    spread = sqrt(max(pooled.centred_squares, 0.0) / pooled.n)
    if metric.maximum - metric.minimum > HEAVY * spread:
        yield _ask_for_cap(metric, pooled.mean, spread, "what comes in has")


def _pooled(seen: Mapping[str, ArmObservations]) -> OutcomeMoments:
    """Return the observations of all arms together."""
    sums = OutcomeMoments()
    for observed in seen.values():
        sums = sums.merge(observed.sums)
    return sums


def _ask_for_cap(metric: Metric, mean: float, spread: float, whose: str) -> str:
    """Return why the range makes evidence wide, and the cap to declare."""
    width, cap = metric.maximum - metric.minimum, mean + _TRIM * spread
    range_text = f"its range of {metric.minimum:g} to {metric.maximum:g} is"
    if spread > 0:
        size = f"{range_text} {width / spread:,.0f} times the standard deviation that {whose}"
    else:
        size = f"{range_text} wide, and every value so far is {mean:g}"
    is_cap = spread > 0 and 0 < cap - metric.minimum < width
    limit = f"maximum = {float(f'{cap:.2g}'):g}" if is_cap else "a smaller maximum"
    return (
        f"{metric.name}: {size}, so its evidence is wide: a value near {metric.maximum:g} that few decisions "
        f"earn could have gone unseen. Add a metric with {limit} and clip = true, and steer by that: the "
        "range of this one is fixed once the experiment has started."
    )


def _listed(names: list[str], last: str = "and") -> str:
    """Return names as in `a, b and c`; of many the first few.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    n_more = len(names) - _MOST_NAMED
    shown = [*names[:_MOST_NAMED], f"{n_more:,} more"] if n_more > 0 else names
    return f"{', '.join(shown[:-1])} {last} {shown[-1]}" if len(shown) > 1 else shown[0]


_MOST_NAMED: Final = 3
