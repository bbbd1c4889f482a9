"""Multiple testing, compared with statsmodels, and p-values of an e-process."""

from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from bandit.inference.sequential.multiplicity import e_bh
from bandit.inference.sequential.results import EProcess


@settings(max_examples=8)
@given(st.lists(st.floats(-5, 12), min_size=1, max_size=12), st.sampled_from([0.05, 0.2]))
def test_e_bh_is_benjamini_hochberg_on_reciprocals(logs: list[float], alpha: float) -> None:
    """e-BH rejects what Benjamini and Hochberg's step-up rejects for p = 1/e (Wang & Ramdas 2022)."""
    rejected = e_bh(dict(enumerate(logs)), alpha)
    theirs = multipletests([min(exp(-value), 1.0) for value in logs], alpha=alpha, method="fdr_bh")[0]
    assert rejected == {i for i, is_rejected in enumerate(theirs.tolist()) if is_rejected}


def test_no_hypotheses_have_no_results() -> None:
    """Without hypotheses nothing is rejected."""
    assert e_bh({}) == frozenset()


def test_p_values_are_the_smallest_so_far() -> None:
    """An e-process that falls again keeps its p-value; both are always finite."""
    process = EProcess((log(2), log(40), log(0.5)))
    assert process.p_value == pytest.approx(1 / 40)
    assert process.value == pytest.approx(0.5)
    assert process.rejects(0.05)
    assert EProcess((-3.0,)).p_value == 1
    assert EProcess((1e9,)).p_value > 0
    assert EProcess(()).p_value == 1
