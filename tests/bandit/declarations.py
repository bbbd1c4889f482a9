"""Hypothesis strategies for declarations that keep every rule of `bandit.validation`."""

from datetime import timedelta

from hypothesis import strategies as st

from bandit.experiment import AnalysisUnit, Arm, Experiment, JsonValue
from bandit.limits import Limits
from bandit.metric import (
    LARGEST_COUNT,
    AbsoluteMargin,
    Direction,
    Margin,
    Metric,
    MetricKind,
    RelativeMargin,
    Role,
)
from bandit.policies import POLICIES, DeclaredPolicy, EpsilonGreedy, WeightedSplit
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior
from bandit.validation import (
    LARGEST_RELATIVE_MARGIN,
    LONGEST_DECISION_AGE,
    LONGEST_MEMORY,
    LONGEST_WINDOW,
    PRIOR_WEIGHTS,
)

MOMENT = timedelta(microseconds=1)

names = st.text("abyz09-", min_size=1, max_size=12)
ids = st.from_regex(r"[A-Za-z0-9-]([A-Za-z0-9._/:@-]{0,12}[A-Za-z0-9-])?", fullmatch=True)
letters = st.characters(
    codec="utf-8",
    exclude_categories=["Cc"],
    exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
)
plain_texts = st.text(letters, max_size=12)
descriptions = st.text(letters | st.sampled_from("\t\n\r"), max_size=20)
weights = st.floats(*PRIOR_WEIGHTS)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
memories = st.none() | st.timedeltas(MOMENT, LONGEST_MEMORY)
windows = st.none() | st.timedeltas(MOMENT, LONGEST_WINDOW)


@st.composite
def ranges(draw: st.DrawFn, kind: MetricKind) -> tuple[float, float]:
    """A range that is valid for the kind; extreme ones too for real values."""
    match kind:
        case MetricKind.BINARY:
            return 0.0, 1.0
        case MetricKind.COUNT:
            least = draw(st.integers(0, 5))
            return float(least), float(draw(st.integers(least + 1, LARGEST_COUNT)))
        case MetricKind.REAL:
            if draw(st.booleans()):
                low = draw(st.floats(-1e6, 1e6))
                return low, low + draw(st.floats(1e-3, 1e6))
            extremes = [(0.0, 1e-100), (0.0, 1e100), (-1e100, 1e100), (1e9, 1e9 + 0.5)]
            return draw(st.sampled_from(extremes))


@st.composite
def priors(draw: st.DrawFn, kind: MetricKind, low: float, high: float) -> Prior | None:
    """A prior within the bounds for the kind and the range; often None."""
    if draw(st.booleans()):
        return None
    match kind:
        case MetricKind.BINARY:
            return BetaPrior(draw(weights), draw(weights))
        case MetricKind.COUNT:
            return GammaPrior(draw(weights), draw(weights))
        case MetricKind.REAL:
            return NormalInverseGammaPrior(
                mean=draw(st.floats(low, high)),
                pseudo_observations=draw(weights),
                shape=draw(st.floats(0.1, PRIOR_WEIGHTS[1])),
                scale=(high - low) ** 2 * draw(st.floats(1e-11, 1e11)),
            )


@st.composite
def metrics(draw: st.DrawFn, name: str, *, may_guard: bool) -> Metric:
    """A metric of any kind."""
    kind = draw(st.sampled_from(MetricKind))
    low, high = draw(ranges(kind))
    window = draw(windows)
    default: float | None = None
    if window is not None and draw(st.booleans()):
        is_real = kind is MetricKind.REAL
        default = draw(st.floats(low, high)) if is_real else float(draw(st.integers(int(low), int(high))))
    direction, role = draw(st.sampled_from(Direction)), draw(st.sampled_from([None, *Role]))
    role = role if may_guard else None
    bare = Metric(name=name, kind=kind, direction=direction, minimum=low, maximum=high)
    margin = None if role is None or window is None else draw(margins(bare, is_signal=role is Role.SIGNAL))
    if role is Role.SIGNAL and margin is None and (window is None or low < 0):
        role = None
    return Metric(
        name=name,
        kind=kind,
        direction=direction,
        minimum=low,
        maximum=high,
        clip=draw(st.booleans()),
        window=window,
        default_value=default,
        is_guardrail=role is Role.GUARDRAIL,
        prior=draw(priors(kind, low, high)),
        is_signal=role is Role.SIGNAL,
        worse_by=margin,
    )


def margins(metric: Metric, *, is_signal: bool) -> st.SearchStrategy[Margin | None]:
    """Margins that are valid for a metric; often None."""
    times, width = 2 if is_signal else 1, metric.maximum - metric.minimum
    absolute = st.floats(1e-6, 0.99 / times).map(lambda part: AbsoluteMargin(part * width))
    if metric.minimum < 0:
        return st.none() | absolute
    largest = LARGEST_RELATIVE_MARGIN if metric.direction is Direction.MINIMIZE else 0.99 / times
    return st.none() | absolute | st.floats(1e-6, largest).map(RelativeMargin)


@st.composite
def limits_of(draw: st.DrawFn, ids: list[str]) -> Limits:
    """Limits that these arms can meet."""
    fair = 1 / len(ids)
    floors = st.floats(0, fair * 0.9)
    by_arm = draw(st.dictionaries(st.sampled_from(ids), floors))
    warm_up = draw(st.none() | st.timedeltas(MOMENT, LONGEST_MEMORY))
    return Limits(
        minimum_share=draw(floors),
        minimum_shares=by_arm,
        maximum_share=draw(st.floats(fair, 1)),
        maximum_step_per_hour=draw(st.none() | st.floats(1e-3, 1)),
        warm_up_decisions=0 if warm_up is None else draw(st.integers(0, 2**40)),
        warm_up_duration=warm_up,
    )


@st.composite
def policies(draw: st.DrawFn, ids: list[str]) -> DeclaredPolicy:
    """Any policy; one that is not named here with its defaults."""
    kind = draw(st.sampled_from(sorted(POLICIES)))
    match kind:
        case "epsilon_greedy":
            return EpsilonGreedy(draw(st.floats(0, 1)), draw(st.none() | st.floats(1e-6, 1e9)))
        case "static_split":
            by_arm = draw(st.dictionaries(st.sampled_from(ids), st.floats(0, 1e9)))
            return WeightedSplit(weights=by_arm | {ids[0]: draw(st.floats(1e-6, 1e9))})
        case _:
            return POLICIES[kind]()  # type: ignore[call-arg]  # a policy that needs arguments is named above


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Any valid experiment of a few arms and metrics."""
    arm_ids = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    metric_names = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    declared = tuple(draw(metrics(name, may_guard=index > 0)) for index, name in enumerate(metric_names))
    longest = max((metric.window or MOMENT for metric in declared), default=MOMENT)
    namespace = draw(st.just("") | names.map(lambda name: name + "/"))
    return Experiment(
        name=namespace + draw(names),
        description=draw(descriptions),
        arms=tuple(
            Arm(
                id=arm_id,
                model_uri=draw(plain_texts),
                digest=draw(plain_texts),
                payload=draw(st.dictionaries(st.text(max_size=4), json_values, max_size=2)),
                is_taken_out=draw(st.booleans()),
            )
            for arm_id in arm_ids
        ),
        champion=draw(st.sampled_from(arm_ids)),
        policy=draw(policies(arm_ids)),
        metrics=declared,
        reward_metric=declared[0].name,
        limits=draw(limits_of(arm_ids)),
        half_life=draw(memories),
        lookback=draw(memories),
        max_decision_age=draw(st.timedeltas(longest, LONGEST_DECISION_AGE)),
        salt=draw(st.binary(min_size=16, max_size=16)),
        analysis_unit=draw(st.sampled_from(AnalysisUnit)),
    )
