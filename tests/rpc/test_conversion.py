"""Conversion of experiments from wire to domain and back, without loss or change, and without a server."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.experiment import AnalysisUnit, Arm, DeclaredPolicy, Experiment, WeightedSplit
from bandit.limits import Limits
from bandit.metric import Direction, Metric, MetricKind
from bandit.policies import EpsilonGreedy, ThompsonSampling
from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior
from bandit.v1 import experiment_pb2
from server.rpc.messages.experiment import declaration_to_message, to_etag, to_experiment, to_revision

ANOTHER_SALT = b"not the one sent"

names = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positives = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
unit_floats = st.floats(0, 1)
lengths = st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=90))
payloads = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)
arms = st.builds(Arm, id=names, model_uri=texts, digest=texts, payload=payloads, is_taken_out=st.booleans())
policies: st.SearchStrategy[DeclaredPolicy] = st.one_of(
    st.builds(ThompsonSampling),
    st.builds(EpsilonGreedy, epsilon=unit_floats, decay_observations=st.none() | positives),
    st.builds(WeightedSplit, weights=st.dictionaries(names, numbers, max_size=3)),
)
priors = st.one_of(
    st.none(),
    st.builds(BetaPrior, positives, positives),
    st.builds(GammaPrior, positives, positives),
    st.builds(
        NormalInverseGammaPrior,
        mean=numbers,
        pseudo_observations=positives,
        shape=positives,
        scale=positives,
    ),
)
metrics = st.builds(
    Metric,
    name=names,
    kind=st.sampled_from(MetricKind),
    direction=st.sampled_from(Direction),
    minimum=numbers,
    maximum=positives,
    clip=st.booleans(),
    window=st.none() | lengths,
    default_value=st.none() | numbers,
    is_guardrail=st.booleans(),
    prior=priors,
)
limits = st.builds(
    Limits,
    minimum_share=unit_floats,
    minimum_shares=st.dictionaries(names, unit_floats, max_size=3),
    maximum_share=st.floats(0, 1, exclude_min=True),
    maximum_step_per_hour=st.none() | st.floats(0, 1, exclude_min=True),
    warm_up_decisions=st.integers(0, 2**64 - 1),
    warm_up_duration=st.none() | lengths,
)
experiments = st.builds(
    Experiment,
    name=names,
    description=texts,
    arms=st.lists(arms, max_size=3).map(tuple),
    champion=names,
    policy=policies,
    metrics=st.lists(metrics, max_size=3).map(tuple),
    reward_metric=names,
    limits=limits,
    half_life=st.none() | lengths,
    lookback=st.none() | lengths,
    max_decision_age=lengths,
    salt=st.binary(min_size=16, max_size=16),
    analysis_unit=st.sampled_from(AnalysisUnit),
)


@settings(max_examples=60)
@given(experiment=experiments)
def test_domain_to_wire_to_domain_is_identity(experiment: Experiment) -> None:
    """A stored experiment can be sent to a client and sent back as the same declaration."""
    sent = declaration_to_message(experiment).SerializeToString()
    assert to_experiment(experiment_pb2.Experiment.FromString(sent), ANOTHER_SALT) == experiment


@settings(max_examples=60)
@given(experiment=experiments)
def test_wire_to_domain_to_wire_is_identity(experiment: Experiment) -> None:
    """A message written by the service is read and written unchanged."""
    message = declaration_to_message(experiment)
    assert declaration_to_message(to_experiment(message, ANOTHER_SALT)) == message


@given(salt=st.binary(min_size=16, max_size=16))
def test_an_experiment_without_a_salt_gets_the_new_one(salt: bytes) -> None:
    """An experiment without a salt gets the new one, and a salt, in upper or lower case, is kept."""
    message = experiment_pb2.Experiment(salt="")
    assert to_experiment(message, salt).salt == salt
    message.salt = salt.hex().upper()
    assert to_experiment(message, ANOTHER_SALT).salt == salt


@given(revision=st.integers(1, 2**31 - 1))
def test_an_etag_is_read_back(revision: int) -> None:
    """An etag is read as the revision that it was made from."""
    assert to_revision(to_etag(revision)) == revision


@given(etag=st.text(min_size=1) | st.from_regex(r"r?[0-9]+\s?"))
def test_an_etag_has_one_spelling(etag: str) -> None:
    """Any other text is not a valid etag."""
    revision = to_revision(etag)
    assert revision == -1 or to_etag(revision or 0) == etag
