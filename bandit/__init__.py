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
    from bandit.experiment import Arm, Experiment, WeightedSplit
    from bandit.facts import DecisionKey, Epoch, Facts, OutcomeKey, Tally
    from bandit.fold import ArmEvidence, Weighting, fold_facts, posteriors_from
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
    "Allocation": "allocation",
    "Arm": "experiment",
    "ArmEvidence": "fold",
    "ArmStanding": "limits",
    "Basis": "decision",
    "BestArmSummary": "quadrature",
    "BetaBatch": "batches",
    "BetaPosterior": "posteriors",
    "BetaPrior": "priors",
    "Decision": "decision",
    "DecisionKey": "facts",
    "DecisionTerms": "decision",
    "Direction": "metric",
    "Epoch": "facts",
    "EpsilonGreedy": "policies",
    "Experiment": "experiment",
    "Facts": "facts",
    "GammaBatch": "batches",
    "GammaPosterior": "posteriors",
    "GammaPrior": "priors",
    "InfeasibleLimitsError": "limits",
    "InvalidDecisionError": "decision",
    "InvalidExperimentError": "validation",
    "Limits": "limits",
    "Metric": "metric",
    "MetricKind": "metric",
    "NormalBatch": "batches",
    "NormalInverseGammaPrior": "priors",
    "NormalPosterior": "posteriors",
    "OutcomeKey": "facts",
    "OutcomeSums": "sums",
    "OutcomeValueError": "metric",
    "Picker": "assignment",
    "Policy": "policies",
    "Posterior": "posteriors",
    "PosteriorBatch": "batches",
    "Prior": "priors",
    "QuadratureError": "quadrature",
    "Signer": "decision",
    "Standing": "allocation",
    "StaticSplit": "policies",
    "StudentTBatch": "batches",
    "StudentTPosterior": "posteriors",
    "Tally": "facts",
    "ThompsonSampling": "policies",
    "Violation": "validation",
    "WeightedSplit": "experiment",
    "Weighting": "fold",
    "allocate": "allocation",
    "apply_limits": "limits",
    "arm_key": "assignment",
    "best_arm_probabilities": "quadrature",
    "best_arm_summary": "quadrature",
    "fold_facts": "fold",
    "needs_epoch": "allocation",
    "posteriors_from": "fold",
    "require_valid": "validation",
    "unit_hash": "assignment",
    "value_remaining_probability": "quadrature",
}

__all__ = [
    "DISTRIBUTION",
    "Allocation",
    "Arm",
    "ArmEvidence",
    "ArmStanding",
    "Basis",
    "BestArmSummary",
    "BetaBatch",
    "BetaPosterior",
    "BetaPrior",
    "Decision",
    "DecisionKey",
    "DecisionTerms",
    "Direction",
    "Epoch",
    "EpsilonGreedy",
    "Experiment",
    "Facts",
    "GammaBatch",
    "GammaPosterior",
    "GammaPrior",
    "InfeasibleLimitsError",
    "InvalidDecisionError",
    "InvalidExperimentError",
    "Limits",
    "Metric",
    "MetricKind",
    "NormalBatch",
    "NormalInverseGammaPrior",
    "NormalPosterior",
    "OutcomeKey",
    "OutcomeSums",
    "OutcomeValueError",
    "Picker",
    "Policy",
    "Posterior",
    "PosteriorBatch",
    "Prior",
    "QuadratureError",
    "Signer",
    "Standing",
    "StaticSplit",
    "StudentTBatch",
    "StudentTPosterior",
    "Tally",
    "ThompsonSampling",
    "Violation",
    "WeightedSplit",
    "Weighting",
    "allocate",
    "apply_limits",
    "arm_key",
    "best_arm_probabilities",
    "best_arm_summary",
    "fold_facts",
    "needs_epoch",
    "posteriors_from",
    "require_valid",
    "unit_hash",
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
