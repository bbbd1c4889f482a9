"""Multi-armed bandits for serving models: posteriors, policies, limits, assignment, and the fold of facts.

Pure: no I/O, no clock, no global state. What a reader of `bandit/README.md` needs is exported here; inference
is in `bandit.inference`, and modules hold the rest. Names are imported when first used, so that
`bandit.client`, which needs neither numpy nor scipy, can be imported without them.

>>> import bandit
>>> posteriors = [bandit.BetaPosterior(31, 971), bandit.BetaPosterior(37, 965)]
>>> bandit.ThompsonSampling().shares(posteriors).round(3).tolist()
[0.228, 0.772]
"""
# ruff: noqa: F403, F405 - the stars are for type checkers alone, and `__all__` says which names they take

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bandit.allocation import *
    from bandit.assignment import *
    from bandit.decision_id import *
    from bandit.experiment import *
    from bandit.facts import *
    from bandit.facts.fold import *
    from bandit.limits import *
    from bandit.metric import *
    from bandit.policies import *
    from bandit.posteriors import *
    from bandit.posteriors.best_arm import *
    from bandit.posteriors.priors import *
    from bandit.validation import *

DISTRIBUTION: Final = "bandit-allocator"
"""The distribution that this package is. PyCQA's linter has the same import name and not this one: in an
environment with both, importing it from there is an ImportError and not a mixture of the two."""

__all__ = [
    "DISTRIBUTION",
    "AbsoluteMargin",
    "Arm",
    "ArmStanding",
    "Basis",
    "BetaPosterior",
    "BetaPrior",
    "DecisionKey",
    "Direction",
    "Epoch",
    "EpsilonGreedy",
    "Experiment",
    "ExperimentState",
    "Facts",
    "GammaPosterior",
    "GammaPrior",
    "InvalidExperimentError",
    "Limits",
    "Metric",
    "MetricKind",
    "NormalInverseGammaPrior",
    "NormalPosterior",
    "OutcomeKey",
    "Picker",
    "RelativeMargin",
    "StaticSplit",
    "StudentTPosterior",
    "Tally",
    "ThompsonSampling",
    "WeightedSplit",
    "Weighting",
    "allocate",
    "apply_limits",
    "best_arm_summary",
    "fold_facts",
    "needs_epoch",
    "posteriors_from",
    "require_valid",
    "unit_hash",
]

_MODULES: Final = (
    *("policies", "posteriors", "posteriors.priors", "posteriors.best_arm", "metric", "limits", "experiment"),
    *("validation", "assignment", "decision_id", "facts", "facts.fold", "allocation"),
)
"""Where the names are, in the order in which they are looked for."""


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, (f"bandit.{each}" for each in _MODULES)):
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module 'bandit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
