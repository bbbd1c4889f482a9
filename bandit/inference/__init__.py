"""Inference on data that a bandit collected: valid at any look, under any allocation, and under drift.

From facts and epochs to a table (`evidence_table`), from the table to means, comparisons, relative lifts and
values of static splits. A function without enough data returns a `CannotSay` with the reason.
"""

from bandit.inference.data.floors import declared_floors, smallest_floors
from bandit.inference.data.table import (
    EvidenceTable,
    ExposureTable,
    ValueScale,
    evidence_table,
    exposure_table,
    open_evidence_table,
)
from bandit.inference.planning.power import (
    Forecast,
    Plan,
    expected_shares,
    forecast_aipw,
    forecast_odds,
    forecast_report,
)
from bandit.inference.planning.share_path import SharePath
from bandit.inference.reasons import CannotSay, Reason
from bandit.inference.sequential.aipw import Comparison, MeanEstimate, compare_means, estimate_mean
from bandit.inference.sequential.design import UNDECLARED_FLOOR, Design
from bandit.inference.sequential.lift import relative_lift
from bandit.inference.sequential.mean_path import MeanLook, look_at_mean
from bandit.inference.sequential.mixture import Mixture
from bandit.inference.sequential.multiplicity import e_bh, holm, mean_process
from bandit.inference.sequential.odds import OddsComparison, compare_odds, harm_process
from bandit.inference.sequential.off_policy import SplitValue, value_of_split
from bandit.inference.sequential.response import ArmResponse, Response, measure_response, require_alike
from bandit.inference.sequential.results import EProcess, Interval
from bandit.inference.sequential.sample_ratio import SampleRatio, check_sample_ratio
from bandit.inference.verdict.advice import Advice, Beliefs, Harm, Rules, Ruling, p_values_at_cycles, rule
from bandit.inference.verdict.assessment import Assessment, MetricEvidence, assess
from bandit.inference.verdict.claims import ChallengerEvidence, Claim, TestKind

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
