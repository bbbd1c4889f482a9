"""Inference on data that a bandit collected: valid at any look, under any allocation, and under drift.

From facts and epochs to a table (`evidence_table`), from the table to means, comparisons, relative lifts and
values of static splits. A function that has too little to go on returns a `CannotSay` with its reason.
"""

from bandit.inference.aipw import Comparison, MeanEstimate, compare, estimate_mean
from bandit.inference.assessment import (
    ALPHA,
    Assessment,
    ChallengerEvidence,
    Claim,
    MetricEvidence,
    TestKind,
    assess,
)
from bandit.inference.design import UNDECLARED_FLOOR, TestDesign
from bandit.inference.floors import declared_floors, smallest_floors
from bandit.inference.lift import relative_lift
from bandit.inference.mixture import Mixture
from bandit.inference.multiplicity import e_bh, holm, mean_process
from bandit.inference.odds import OddsComparison, compare_odds, harm
from bandit.inference.off_policy import SplitValue, value_of_split
from bandit.inference.power import Forecast, Plan, forecast_aipw, forecast_odds
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.response import ArmResponse, Response, require_alike, response
from bandit.inference.results import EProcess, Interval
from bandit.inference.ruling import Advice, Beliefs, Harm, Rules, Ruling, p_values_at_cycles, rule
from bandit.inference.sample_ratio import SampleRatio, sample_ratio
from bandit.inference.table import (
    EvidenceTable,
    ExposureTable,
    ValueScale,
    evidence_table,
    exposure_table,
    open_evidence_table,
)

__all__ = [
    "ALPHA",
    "UNDECLARED_FLOOR",
    "Advice",
    "ArmResponse",
    "Assessment",
    "Beliefs",
    "CannotSay",
    "ChallengerEvidence",
    "Claim",
    "Comparison",
    "EProcess",
    "EvidenceTable",
    "ExposureTable",
    "Forecast",
    "Harm",
    "Interval",
    "MeanEstimate",
    "MetricEvidence",
    "Mixture",
    "OddsComparison",
    "Plan",
    "Reason",
    "Response",
    "Rules",
    "Ruling",
    "SampleRatio",
    "SplitValue",
    "TestDesign",
    "TestKind",
    "ValueScale",
    "assess",
    "compare",
    "compare_odds",
    "declared_floors",
    "e_bh",
    "estimate_mean",
    "evidence_table",
    "exposure_table",
    "forecast_aipw",
    "forecast_odds",
    "harm",
    "holm",
    "mean_process",
    "open_evidence_table",
    "p_values_at_cycles",
    "relative_lift",
    "require_alike",
    "response",
    "rule",
    "sample_ratio",
    "smallest_floors",
    "value_of_split",
]
