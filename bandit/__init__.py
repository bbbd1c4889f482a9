"""Multi-armed bandits for serving models: posteriors, policies, limits, assignment, and the fold of facts.

Pure: no I/O, no clock, no global state. Names are imported when first used, so that `bandit.client`, which
needs neither numpy nor scipy, can be imported without them.

>>> import bandit
>>> posteriors = [bandit.BetaPosterior(31, 971), bandit.BetaPosterior(37, 965)]
>>> bandit.ThompsonSampling().shares(posteriors).round(3).tolist()
[0.228, 0.772]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bandit.allocation import Allocation, Standing, allocate, needs_epoch
    from bandit.assignment import Picker, arm_key, unit_hash
    from bandit.batches import BetaBatch, GammaBatch, NormalBatch, PosteriorBatch, StudentTBatch
    from bandit.decision import Basis, Decision, DecisionTerms, InvalidDecisionError, Signer
    from bandit.experiment import AnalysisUnit, Arm, Experiment, WeightedSplit
    from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
    from bandit.fold import ArmEvidence, Weighting, fold_facts, posteriors_from
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
    from bandit.limits import ArmStanding, InfeasibleLimitsError, Limits, apply_limits
    from bandit.metric import Direction, Metric, MetricKind, OutcomeValueError
    from bandit.policies import EpsilonGreedy, Policy, StaticSplit, ThompsonSampling
    from bandit.posteriors import (
        BetaPosterior,
        GammaPosterior,
        NormalPosterior,
        Posterior,
        StudentTPosterior,
    )
    from bandit.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior
    from bandit.quadrature import (
        BestArmSummary,
        QuadratureError,
        best_arm_probabilities,
        best_arm_summary,
        value_remaining_probability,
    )
    from bandit.sums import OutcomeSums
    from bandit.validation import InvalidExperimentError, Violation, require_valid

DISTRIBUTION: Final = "bandit-allocator"
"""The distribution that this package is. PyCQA's linter has the same import name and not this one: in an
environment with both, importing it from there is an ImportError and not a mixture of the two."""

_MODULE_OF: Final = {
    "Advice": "inference.ruling",
    "Allocation": "allocation",
    "AnalysisUnit": "experiment",
    "Arm": "experiment",
    "ArmEvidence": "fold",
    "ArmResponse": "inference.response",
    "ArmStanding": "limits",
    "Assessment": "inference.assessment",
    "Basis": "decision",
    "Beliefs": "inference.ruling",
    "BestArmSummary": "quadrature",
    "BetaBatch": "batches",
    "BetaPosterior": "posteriors",
    "BetaPrior": "priors",
    "CannotSay": "inference.reasons",
    "ChallengerEvidence": "inference.claims",
    "Claim": "inference.claims",
    "Comparison": "inference.aipw",
    "Decision": "decision",
    "DecisionKey": "facts",
    "DecisionTerms": "decision",
    "Design": "inference.design",
    "Direction": "metric",
    "EProcess": "inference.results",
    "Epoch": "facts",
    "EpsilonGreedy": "policies",
    "EvidenceTable": "inference.table",
    "Experiment": "experiment",
    "ExposureTable": "inference.table",
    "Facts": "facts",
    "Forecast": "inference.power",
    "GammaBatch": "batches",
    "GammaPosterior": "posteriors",
    "GammaPrior": "priors",
    "Harm": "inference.ruling",
    "InfeasibleLimitsError": "limits",
    "Interval": "inference.results",
    "InvalidDecisionError": "decision",
    "InvalidExperimentError": "validation",
    "Limits": "limits",
    "MeanEstimate": "inference.aipw",
    "MeanLook": "inference.path",
    "Metric": "metric",
    "MetricEvidence": "inference.assessment",
    "MetricKind": "metric",
    "Mixture": "inference.mixture",
    "NormalBatch": "batches",
    "NormalInverseGammaPrior": "priors",
    "NormalPosterior": "posteriors",
    "OddsComparison": "inference.odds",
    "OutcomeKey": "facts",
    "OutcomeSums": "sums",
    "OutcomeValueError": "metric",
    "Picker": "assignment",
    "Plan": "inference.power",
    "Policy": "policies",
    "Posterior": "posteriors",
    "PosteriorBatch": "batches",
    "Prior": "priors",
    "QuadratureError": "quadrature",
    "Reason": "inference.reasons",
    "Response": "inference.response",
    "Rules": "inference.ruling",
    "Ruling": "inference.ruling",
    "SampleRatio": "inference.sample_ratio",
    "SharePath": "inference.share_path",
    "Signer": "decision",
    "SplitValue": "inference.off_policy",
    "Standing": "allocation",
    "StaticSplit": "policies",
    "StudentTBatch": "batches",
    "StudentTPosterior": "posteriors",
    "Tally": "facts",
    "TestKind": "inference.claims",
    "ThompsonSampling": "policies",
    "UNDECLARED_FLOOR": "inference.design",
    "ValueScale": "inference.table",
    "Violation": "validation",
    "WeightedSplit": "experiment",
    "Weighting": "fold",
    "allocate": "allocation",
    "apply_limits": "limits",
    "arm_key": "assignment",
    "assess": "inference.assessment",
    "best_arm_probabilities": "quadrature",
    "best_arm_summary": "quadrature",
    "check_sample_ratio": "inference.sample_ratio",
    "compare_means": "inference.aipw",
    "compare_odds": "inference.odds",
    "declared_floors": "inference.floors",
    "e_bh": "inference.multiplicity",
    "estimate_mean": "inference.aipw",
    "evidence_table": "inference.table",
    "expected_shares": "inference.power",
    "exposure_table": "inference.table",
    "fold_facts": "fold",
    "forecast_aipw": "inference.power",
    "forecast_odds": "inference.power",
    "forecast_report": "inference.power",
    "harm_process": "inference.odds",
    "holm": "inference.multiplicity",
    "look_at_mean": "inference.path",
    "mean_process": "inference.multiplicity",
    "measure_response": "inference.response",
    "needs_epoch": "allocation",
    "open_evidence_table": "inference.table",
    "p_values_at_cycles": "inference.ruling",
    "posteriors_from": "fold",
    "relative_lift": "inference.lift",
    "require_alike": "inference.response",
    "require_valid": "validation",
    "rule": "inference.ruling",
    "smallest_floors": "inference.floors",
    "unit_hash": "assignment",
    "value_of_split": "inference.off_policy",
    "value_remaining_probability": "quadrature",
}

__all__ = [
    "DISTRIBUTION",
    "UNDECLARED_FLOOR",
    "Advice",
    "Allocation",
    "AnalysisUnit",
    "Arm",
    "ArmEvidence",
    "ArmResponse",
    "ArmStanding",
    "Assessment",
    "Basis",
    "Beliefs",
    "BestArmSummary",
    "BetaBatch",
    "BetaPosterior",
    "BetaPrior",
    "CannotSay",
    "ChallengerEvidence",
    "Claim",
    "Comparison",
    "Decision",
    "DecisionKey",
    "DecisionTerms",
    "Design",
    "Direction",
    "EProcess",
    "Epoch",
    "EpsilonGreedy",
    "EvidenceTable",
    "Experiment",
    "ExposureTable",
    "Facts",
    "Forecast",
    "GammaBatch",
    "GammaPosterior",
    "GammaPrior",
    "Harm",
    "InfeasibleLimitsError",
    "Interval",
    "InvalidDecisionError",
    "InvalidExperimentError",
    "Limits",
    "MeanEstimate",
    "MeanLook",
    "Metric",
    "MetricEvidence",
    "MetricKind",
    "Mixture",
    "NormalBatch",
    "NormalInverseGammaPrior",
    "NormalPosterior",
    "OddsComparison",
    "OutcomeKey",
    "OutcomeSums",
    "OutcomeValueError",
    "Picker",
    "Plan",
    "Policy",
    "Posterior",
    "PosteriorBatch",
    "Prior",
    "QuadratureError",
    "Reason",
    "Response",
    "Rules",
    "Ruling",
    "SampleRatio",
    "SharePath",
    "Signer",
    "SplitValue",
    "Standing",
    "StaticSplit",
    "StudentTBatch",
    "StudentTPosterior",
    "Tally",
    "TestKind",
    "ThompsonSampling",
    "ValueScale",
    "Violation",
    "WeightedSplit",
    "Weighting",
    "allocate",
    "apply_limits",
    "arm_key",
    "assess",
    "best_arm_probabilities",
    "best_arm_summary",
    "check_sample_ratio",
    "compare_means",
    "compare_odds",
    "declared_floors",
    "e_bh",
    "estimate_mean",
    "evidence_table",
    "expected_shares",
    "exposure_table",
    "fold_facts",
    "forecast_aipw",
    "forecast_odds",
    "forecast_report",
    "harm_process",
    "holm",
    "look_at_mean",
    "mean_process",
    "measure_response",
    "needs_epoch",
    "open_evidence_table",
    "p_values_at_cycles",
    "posteriors_from",
    "relative_lift",
    "require_alike",
    "require_valid",
    "rule",
    "smallest_floors",
    "unit_hash",
    "value_of_split",
    "value_remaining_probability",
]


def __getattr__(name: str) -> object:
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module 'bandit' has no attribute {name!r}") from None
    value = getattr(import_module(f"bandit.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
