"""Inference on data that a bandit collected: valid at any look, under any allocation, and under drift.

From facts and epochs to a table (`evidence_table`), from the table to means, comparisons, relative lifts and
values of static splits. A function that has too little to go on returns a `CannotSay` with its reason.
"""

from bandit.inference.aipw import Comparison, MeanEstimate, compare_means, estimate_mean
from bandit.inference.assessment import Assessment, MetricEvidence, assess
from bandit.inference.claims import ChallengerEvidence, Claim, TestKind
from bandit.inference.design import UNDECLARED_FLOOR, Design
from bandit.inference.floors import declared_floors, smallest_floors
from bandit.inference.lift import relative_lift
from bandit.inference.mixture import Mixture
from bandit.inference.multiplicity import e_bh, holm, mean_process
from bandit.inference.odds import OddsComparison, compare_odds, harm_process
from bandit.inference.off_policy import SplitValue, value_of_split
from bandit.inference.path import MeanLook, look_at_mean
from bandit.inference.power import (
    Forecast,
    Plan,
    expected_shares,
    forecast_aipw,
    forecast_odds,
    forecast_report,
)
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.response import ArmResponse, Response, measure_response, require_alike
from bandit.inference.results import EProcess, Interval
from bandit.inference.ruling import Advice, Beliefs, Harm, Rules, Ruling, p_values_at_cycles, rule
from bandit.inference.sample_ratio import SampleRatio, check_sample_ratio
from bandit.inference.share_path import SharePath
from bandit.inference.table import (
    EvidenceTable,
    ExposureTable,
    ValueScale,
    evidence_table,
    exposure_table,
    open_evidence_table,
)

__all__ = [
    "UNDECLARED_FLOOR",
    "Advice",
    "ArmResponse",
    "Assessment",
    "Beliefs",
    "CannotSay",
    "ChallengerEvidence",
    "Claim",
    "Comparison",
    "Design",
    "EProcess",
    "EvidenceTable",
    "ExposureTable",
    "Forecast",
    "Harm",
    "Interval",
    "MeanEstimate",
    "MeanLook",
    "MetricEvidence",
    "Mixture",
    "OddsComparison",
    "Plan",
    "Reason",
    "Response",
    "Rules",
    "Ruling",
    "SampleRatio",
    "SharePath",
    "SplitValue",
    "TestKind",
    "ValueScale",
    "assess",
    "check_sample_ratio",
    "compare_means",
    "compare_odds",
    "declared_floors",
    "e_bh",
    "estimate_mean",
    "evidence_table",
    "expected_shares",
    "exposure_table",
    "forecast_aipw",
    "forecast_odds",
    "forecast_report",
    "harm_process",
    "holm",
    "look_at_mean",
    "mean_process",
    "measure_response",
    "open_evidence_table",
    "p_values_at_cycles",
    "relative_lift",
    "require_alike",
    "rule",
    "smallest_floors",
    "value_of_split",
]
