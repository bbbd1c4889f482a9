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
    from bandit.allocation import Allocation, ExperimentState, allocate, needs_epoch, posteriors_from
    from bandit.assignment import Picker, arm_key, unit_hash
    from bandit.decision_id import Basis, Decision, DecisionTerms, InvalidDecisionError, Signer
    from bandit.experiment import AnalysisUnit, Arm, Experiment
    from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
    from bandit.facts.fold import ArmObservations, Weighting, fold_facts
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
    from bandit.limits import ArmStanding, InfeasibleLimitsError, Limits, apply_limits
    from bandit.metric import Direction, Metric, MetricKind, OutcomeValueError
    from bandit.policies import EpsilonGreedy, Policy, StaticSplit, ThompsonSampling, WeightedSplit
    from bandit.posteriors import (
        BetaPosterior,
        GammaPosterior,
        NormalPosterior,
        Posterior,
        StudentTPosterior,
    )
    from bandit.posteriors.batches import BetaBatch, GammaBatch, NormalBatch, PosteriorBatch, StudentTBatch
    from bandit.posteriors.best_arm import (
        BestArmSummary,
        QuadratureError,
        best_arm_probabilities,
        best_arm_summary,
        value_remaining_probability,
    )
    from bandit.posteriors.moments import OutcomeMoments
    from bandit.posteriors.priors import BetaPrior, GammaPrior, NormalInverseGammaPrior, Prior
    from bandit.validation import InvalidExperimentError, Violation, require_valid

DISTRIBUTION: Final = "bandit-allocator"
"""The distribution that this package is. PyCQA's linter has the same import name and not this one: in an
environment with both, importing it from there is an ImportError and not a mixture of the two."""

_MODULE_OF: Final = {
    "Advice": "inference.verdict.advice",
    "Allocation": "allocation",
    "AnalysisUnit": "experiment",
    "Arm": "experiment",
    "ArmObservations": "facts.fold",
    "ArmResponse": "inference.sequential.response",
    "ArmStanding": "limits",
    "Assessment": "inference.verdict.assessment",
    "Basis": "decision_id",
    "Beliefs": "inference.verdict.advice",
    "BestArmSummary": "posteriors.best_arm",
    "BetaBatch": "posteriors.batches",
    "BetaPosterior": "posteriors",
    "BetaPrior": "posteriors.priors",
    "CannotSay": "inference.reasons",
    "ChallengerEvidence": "inference.verdict.claims",
    "Claim": "inference.verdict.claims",
    "Comparison": "inference.sequential.aipw",
    "Decision": "decision_id",
    "DecisionKey": "facts",
    "DecisionTerms": "decision_id",
    "Design": "inference.sequential.design",
    "Direction": "metric",
    "EProcess": "inference.sequential.results",
    "Epoch": "facts",
    "EpsilonGreedy": "policies",
    "EvidenceTable": "inference.data.table",
    "Experiment": "experiment",
    "ExposureTable": "inference.data.table",
    "Facts": "facts",
    "Forecast": "inference.planning.power",
    "GammaBatch": "posteriors.batches",
    "GammaPosterior": "posteriors",
    "GammaPrior": "posteriors.priors",
    "Harm": "inference.verdict.advice",
    "InfeasibleLimitsError": "limits",
    "Interval": "inference.sequential.results",
    "InvalidDecisionError": "decision_id",
    "InvalidExperimentError": "validation",
    "Limits": "limits",
    "MeanEstimate": "inference.sequential.aipw",
    "MeanLook": "inference.sequential.mean_path",
    "Metric": "metric",
    "MetricEvidence": "inference.verdict.assessment",
    "MetricKind": "metric",
    "Mixture": "inference.sequential.mixture",
    "NormalBatch": "posteriors.batches",
    "NormalInverseGammaPrior": "posteriors.priors",
    "NormalPosterior": "posteriors",
    "OddsComparison": "inference.sequential.odds",
    "OutcomeKey": "facts",
    "OutcomeMoments": "posteriors.moments",
    "OutcomeValueError": "metric",
    "Picker": "assignment",
    "Plan": "inference.planning.power",
    "Policy": "policies",
    "Posterior": "posteriors",
    "PosteriorBatch": "posteriors.batches",
    "Prior": "posteriors.priors",
    "QuadratureError": "posteriors.best_arm",
    "Reason": "inference.reasons",
    "Response": "inference.sequential.response",
    "Rules": "inference.verdict.advice",
    "Ruling": "inference.verdict.advice",
    "SampleRatio": "inference.sequential.sample_ratio",
    "SharePath": "inference.planning.share_path",
    "Signer": "decision_id",
    "SplitValue": "inference.sequential.off_policy",
    "ExperimentState": "allocation",
    "StaticSplit": "policies",
    "StudentTBatch": "posteriors.batches",
    "StudentTPosterior": "posteriors",
    "Tally": "facts",
    "TestKind": "inference.verdict.claims",
    "ThompsonSampling": "policies",
    "UNDECLARED_FLOOR": "inference.sequential.design",
    "ValueScale": "inference.data.table",
    "Violation": "validation",
    "WeightedSplit": "experiment",
    "Weighting": "facts.fold",
    "allocate": "allocation",
    "apply_limits": "limits",
    "arm_key": "assignment",
    "assess": "inference.verdict.assessment",
    "best_arm_probabilities": "posteriors.best_arm",
    "best_arm_summary": "posteriors.best_arm",
    "check_sample_ratio": "inference.sequential.sample_ratio",
    "compare_means": "inference.sequential.aipw",
    "compare_odds": "inference.sequential.odds",
    "declared_floors": "inference.data.floors",
    "e_bh": "inference.sequential.multiplicity",
    "estimate_mean": "inference.sequential.aipw",
    "evidence_table": "inference.data.table",
    "expected_shares": "inference.planning.power",
    "exposure_table": "inference.data.table",
    "fold_facts": "facts.fold",
    "forecast_aipw": "inference.planning.power",
    "forecast_odds": "inference.planning.power",
    "forecast_report": "inference.planning.power",
    "harm_process": "inference.sequential.odds",
    "holm": "inference.sequential.multiplicity",
    "look_at_mean": "inference.sequential.mean_path",
    "mean_process": "inference.sequential.multiplicity",
    "measure_response": "inference.sequential.response",
    "needs_epoch": "allocation",
    "open_evidence_table": "inference.data.table",
    "p_values_at_cycles": "inference.verdict.advice",
    "posteriors_from": "allocation",
    "relative_lift": "inference.sequential.lift",
    "require_alike": "inference.sequential.response",
    "require_valid": "validation",
    "rule": "inference.verdict.advice",
    "smallest_floors": "inference.data.floors",
    "unit_hash": "assignment",
    "value_of_split": "inference.sequential.off_policy",
    "value_remaining_probability": "posteriors.best_arm",
}

__all__ = [
    "DISTRIBUTION",
    "UNDECLARED_FLOOR",
    "Advice",
    "Allocation",
    "AnalysisUnit",
    "Arm",
    "ArmObservations",
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
    "ExperimentState",
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
    "OutcomeMoments",
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
