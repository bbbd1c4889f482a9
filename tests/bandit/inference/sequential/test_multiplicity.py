"""Multiple testing, compared with statsmodels and with its definition."""

from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from bandit.inference.sequential.multiplicity import e_bh, holm, mean_process
from bandit.inference.sequential.results import EProcess


@settings(max_examples=8)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    """Adjusted p-values agree with statsmodels', in their order."""
    ours = holm(dict(enumerate(p_values)))
    theirs = multipletests(p_values, method="holm")[1]
    assert [ours[i] for i in range(len(p_values))] == pytest.approx(theirs.tolist())


@settings(max_examples=8)
@given(st.lists(st.floats(-5, 12), min_size=1, max_size=12), st.sampled_from([0.05, 0.2]))
def test_e_bh_is_benjamini_hochberg_on_reciprocals(logs: list[float], alpha: float) -> None:
    """e-BH rejects what Benjamini and Hochberg's step-up rejects for p = 1/e (Wang & Ramdas 2022)."""
    rejected = e_bh(dict(enumerate(logs)), alpha)
    theirs = multipletests([min(exp(-value), 1.0) for value in logs], alpha=alpha, method="fdr_bh")[0]
    assert rejected == {i for i, is_rejected in enumerate(theirs.tolist()) if is_rejected}


def test_no_hypotheses_have_no_results() -> None:
    """Without hypotheses the results are empty."""
    assert holm({}) == {}
    assert e_bh({}) == frozenset()


def test_impossible_p_values_are_refused() -> None:
    """A p-value above 1 is refused."""
    with pytest.raises(ValueError, match="p-values must be in"):
        holm({"a": 1.5})


def test_means_need_common_epochs() -> None:
    """Processes over different epochs are refused."""
    with pytest.raises(ValueError, match="same epochs"):
        mean_process([EProcess((0.0,)), EProcess((0.0, 1.0))])


def test_p_values_are_the_smallest_so_far() -> None:
    """An e-process that falls again keeps its p-value; both are always finite."""
    process = EProcess((log(2), log(40), log(0.5)))
    assert process.p_value == pytest.approx(1 / 40)
    assert process.value == pytest.approx(0.5)
    assert process.rejects(0.05)
    assert EProcess((-3.0,)).p_value == 1
    assert EProcess((1e9,)).p_value > 0
    assert EProcess(()).p_value == 1
