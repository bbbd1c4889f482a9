"""Declarations as documents: what is stored comes back as it was, for anything that may be declared."""

import json
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.experiment import Experiment
from bandit.metric import Metric
from bandit.validation import LONGEST_MEMORY
from server.store.documents import Declaration, from_document, to_document
from tests.domain.builders import declare
from tests.domain.declarations import experiments, names

numbers = st.dictionaries(names, st.integers(0, 2**31), max_size=4)


@settings(max_examples=50)
@given(experiment=experiments(), arm_numbers=numbers, metric_numbers=numbers, winner=st.none() | names)
def test_a_document_reads_as_it_was_written(
    experiment: Experiment, arm_numbers: dict[str, int], metric_numbers: dict[str, int], winner: str | None
) -> None:
    """Writing and reading is the identity on every valid declaration, to the last digit and microsecond."""
    declaration = Declaration(
        experiment=experiment, arm_numbers=arm_numbers, metric_numbers=metric_numbers, winner=winner
    )
    document = to_document(declaration)
    assert from_document(document) == declaration
    assert to_document(from_document(document)) == document
    json.loads(document, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_durations_keep_their_microseconds() -> None:
    """The longest durations that may be declared come back exact."""
    longest = LONGEST_MEMORY - timedelta(microseconds=1)
    metric = Metric(name="x", window=timedelta(days=89, microseconds=999_999), default_value=0.1 + 0.2)
    experiment = declare(metrics=[metric], half_life=longest, lookback=timedelta(microseconds=1))
    declaration = Declaration(experiment=experiment, arm_numbers={}, metric_numbers={}, winner=None)
    assert from_document(to_document(declaration)).experiment == experiment
