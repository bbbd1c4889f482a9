"""Hypothesis strategies for declarations that keep every rule of `bandit.validation`."""

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from bandit.experiment import AnalysisUnit, Arm, Experiment, JsonValue, PriorFrom
from bandit.launch.launching import Launching, MoveRefusedError, Occasion
from bandit.launch.moves import (
    admitted,
    advanced,
    approved,
    begun,
    ended,
    held,
    holdback_ended,
    promoted,
    restarted,
    rolled_back,
)
from bandit.launch.plan import (
    AfterHoldback,
    GuardrailAction,
    Holdback,
    LaunchPlan,
    Mode,
    OnInconclusive,
    OnTrouble,
    Stage,
    StageKind,
)
from bandit.launch.state import ArmState, Launch
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
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

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
def limits_of_launch(draw: st.DrawFn, ids: list[str]) -> Limits:
    """Limits under which a challenger alone gets through any of `plans`."""
    floors = st.floats(0, 0.3)
    return Limits(
        minimum_share=draw(floors),
        minimum_shares=draw(st.dictionaries(st.sampled_from(ids), floors)),
        maximum_share=draw(st.floats(0.5, 1)),
        maximum_step_per_hour=draw(st.none() | st.floats(1e-3, 1)),
        champion_minimum_share=draw(floors),
    )


@st.composite
def stages(draw: st.DrawFn, kind: StageKind, shares: list[float], *, counts_outcomes: bool) -> Stage:
    """A stage of this kind; it may wait for outcomes if the reward metric has a window."""
    is_shadow = kind is StageKind.SHADOW
    parts = st.floats(1e-3, 1)
    stage = Stage(
        kind=kind,
        sample=draw(parts) if is_shadow else 1.0,
        minimum_mirrored=draw(parts) if is_shadow else 0.9,
        share=shares[0] if kind is StageKind.CANARY else 0.0,
        shares=tuple(shares[1:]) if kind is StageKind.RAMP else (),
        minimum_decisions=draw(st.integers(0, 2**40)),
        minimum_outcomes=draw(st.integers(0, 2**40)) if counts_outcomes and not is_shadow else 0,
        minimum_duration=draw(st.none() | st.timedeltas(MOMENT, timedelta(days=30))),
        whole_cycles=draw(st.integers(0, 3)),
        approval=draw(st.booleans()),
    )
    return replace(stage, maximum_duration=draw(st.none() | st.just(timedelta(days=400) - MOMENT)))


@st.composite
def plans(draw: st.DrawFn, *, counts_outcomes: bool) -> LaunchPlan:
    """A plan that keeps every rule beside `limits_of_launch`."""
    rising = st.lists(st.floats(1e-4, 0.5), min_size=2, max_size=5, unique=True).map(sorted)
    kinds = [kind for kind in StageKind if kind is StageKind.BANDIT or draw(st.booleans())]
    shares = draw(rising)
    return LaunchPlan(
        stages=tuple(draw(stages(kind, shares, counts_outcomes=counts_outcomes)) for kind in kinds),
        mode=draw(st.sampled_from(Mode)),
        cycle=draw(st.timedeltas(timedelta(seconds=1), timedelta(days=90))),
        minimum_cycles=draw(st.integers(1, 4)),
        holdback=draw(
            st.none() | st.builds(Holdback, share=st.floats(1e-4, 0.3), cycles=st.integers(1, 1000))
        ),
        guardrail_action=draw(st.sampled_from(GuardrailAction)),
        on_no_data=draw(st.sampled_from(OnTrouble)),
        on_sample_ratio_alarm=draw(st.sampled_from(OnTrouble)),
        on_inconclusive=draw(st.sampled_from(OnInconclusive)),
        after_holdback=draw(st.sampled_from(AfterHoldback)),
        least_lift=draw(st.none() | st.floats(1e-4, 0.5)),
        max_staleness=draw(st.timedeltas(timedelta(seconds=1), timedelta(hours=1))),
    )


def _walked(launching: Launching, arm: str, when: Occasion) -> Launching:
    """Take an arm as far as the rules allow."""
    try:
        while True:
            step = launching.arm(arm).current
            if step is not None and step.stage.approval:
                launching = approved(launching, arm)
            launching = advanced(launching, arm, when)
    except MoveRefusedError:
        return launching


_MOVES: tuple[Callable[[Launching, str, Occasion], Launching], ...] = (
    lambda launching, _arm, when: admitted(launching, when),
    advanced,
    _walked,
    promoted,
    lambda launching, arm, when: promoted(_walked(launching, arm, when), arm, when),
    lambda launching, _arm, when: holdback_ended(launching, when),
    held,
    lambda launching, arm, _when: approved(launching, arm),
    rolled_back,
    lambda launching, arm, when: ended(launching, arm, ArmState.RETIRED, when),
    restarted,
)


@st.composite
def launched(draw: st.DrawFn, experiment: Experiment) -> tuple[Experiment, Launch | None]:
    """An experiment in its launch, wherever moves may lead; as it is, and None, if it declares none."""
    if experiment.launch is None:
        return experiment, None
    moments = st.timedeltas(timedelta(), timedelta(days=1000)).map(lambda since: _EPOCH + since)
    occasions = st.builds(
        Occasion,
        at=moments,
        revision=st.integers(1, 2**31),
        actor=st.text(max_size=5),
        reason=st.text(max_size=9),
    )
    launching = begun(experiment, draw(occasions), is_started=False)
    for move in draw(st.lists(st.sampled_from(_MOVES), min_size=3, max_size=8)):
        arm = draw(st.sampled_from(tuple(launching.launch.arms) or (experiment.champion,)))
        try:
            launching = move(launching, arm, draw(occasions))
        except MoveRefusedError:
            continue
    return launching.experiment, launching.launch


def sources(ids: Collection[str]) -> st.SearchStrategy[PriorFrom | None]:
    """Where the belief about an arm may start: from any of these arms, or from none."""
    found = st.builds(PriorFrom, st.sampled_from(sorted(ids)), st.floats(0, 1, exclude_min=True))
    return found if ids else st.none()


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
def experiments(draw: st.DrawFn, *, has_launch: bool | None = None) -> Experiment:
    """Any valid experiment of a few arms and metrics, with a launch or without."""
    has_launch = draw(st.booleans()) if has_launch is None else has_launch
    arm_ids = draw(st.lists(ids, min_size=3 if has_launch else 1, max_size=5, unique=True))
    metric_names = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    declared = tuple(draw(metrics(name, may_guard=index > 0)) for index, name in enumerate(metric_names))
    longest = max((metric.window or MOMENT for metric in declared), default=MOMENT)
    namespace = draw(st.just("") | names.map(lambda name: name + "/"))
    champion = draw(st.sampled_from(arm_ids))
    return Experiment(
        name=namespace + draw(names),
        description=draw(descriptions),
        arms=tuple(
            Arm(
                id=arm_id,
                model_uri=draw(plain_texts),
                digest=draw(plain_texts),
                payload=draw(st.dictionaries(st.text(max_size=4), json_values, max_size=2)),
                is_taken_out=draw(st.booleans()) and not (has_launch and arm_id == champion),
                prior_from=draw(st.none() | sources(set(arm_ids) - {arm_id})),
            )
            for arm_id in arm_ids
        ),
        champion=champion,
        policy=draw(policies(arm_ids)),
        metrics=declared,
        reward_metric=declared[0].name,
        limits=draw(limits_of_launch(arm_ids) if has_launch else limits_of(arm_ids)),
        half_life=draw(memories),
        lookback=draw(memories),
        max_decision_age=draw(st.timedeltas(longest, LONGEST_DECISION_AGE)),
        salt=draw(st.binary(min_size=16, max_size=16)),
        analysis_unit=draw(st.sampled_from(AnalysisUnit)),
        launch=draw(plans(counts_outcomes=declared[0].window is not None)) if has_launch else None,
    )
