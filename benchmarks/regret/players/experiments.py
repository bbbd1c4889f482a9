"""Runs as experiments: the declaration sent to a server, and the shares expected from it."""

from bandit.limits import ArmStanding, apply_limits
from bandit.metric import MetricKind
from bandit.policies import EpsilonGreedy, StaticSplit, ThompsonSampling
from bandit.posteriors.moments import OutcomeMoments
from bandit.posteriors.priors import NormalInverseGammaPrior
from bandit.v1 import experiment_pb2 as pb
from benchmarks.regret.players.contestants import Contestant, arm_id
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import METRIC

_TO_KIND = {
    MetricKind.BINARY: pb.METRIC_KIND_BINARY,
    MetricKind.REAL: pb.METRIC_KIND_REAL,
    MetricKind.COUNT: pb.METRIC_KIND_COUNT,
}


def declared(name: str, problem: Problem, contestant: Contestant) -> pb.Experiment:
    """Return the experiment of one run; its metric has no window, so that outcomes count at once."""
    limits = contestant.limits(problem)
    return pb.Experiment(
        name=name,
        arms=[pb.Arm(id=arm_id(arm)) for arm in range(problem.n_arms)],
        champion=arm_id(problem.champion),
        policy=_policy(problem, contestant),
        metrics=[_metric(problem)],
        reward_metric=METRIC,
        limits=pb.Limits(minimum_share=limits.minimum_share, minimum_shares=dict(limits.minimum_shares)),
    )


class RunFacts:
    """Outcomes that one run has posted, as the whole numbers that the server keeps.

    Args:
        problem: The problem to play.
        contestant: The contestant.
    """

    def __init__(self, problem: Problem, contestant: Contestant) -> None:
        self._policy = contestant.policy
        self._limits = contestant.limits(problem)
        self._metric = problem.metric
        self._tallies = [[0, 0, 0] for _ in range(problem.n_arms)]

    def add(self, arm: int, reward: float) -> None:
        """Add an outcome."""
        quanta = self._metric.quantise(reward)
        tally = self._tallies[arm]
        tally[0] += 1
        tally[1] += quanta
        tally[2] += quanta * quanta

    def shares(self) -> dict[str, float]:
        """Return arm id to the share that follows from the outcomes."""
        metric = self._metric
        sums = [
            OutcomeMoments.from_integers(*tally, quantum=metric.quantum, offset=metric.offset)
            for tally in self._tallies
        ]
        posteriors = [metric.effective_prior.update(each) for each in sums]
        wish = self._policy.shares(posteriors, n_observations=sum(each.n for each in sums))
        ids = [arm_id(arm) for arm in range(len(sums))]
        shares = apply_limits(wish, [ArmStanding(id=each) for each in ids], self._limits)
        return dict(zip(ids, shares.tolist(), strict=True))


def _policy(problem: Problem, contestant: Contestant) -> pb.Policy:
    match contestant.policy:
        case ThompsonSampling():
            return pb.Policy(thompson_sampling=pb.ThompsonSampling())
        case EpsilonGreedy(epsilon=epsilon, decay_observations=decay):
            greedy = pb.EpsilonGreedy(epsilon=epsilon, decay_observations=decay or 0.0)
            return pb.Policy(epsilon_greedy=greedy)
        case StaticSplit(weights=weights):
            named = {arm_id(arm): weight for arm, weight in enumerate(weights or (1.0,) * problem.n_arms)}
            return pb.Policy(static_split=pb.StaticSplit(weights=named))


def _metric(problem: Problem) -> pb.Metric:
    metric = problem.metric
    message = pb.Metric(
        name=METRIC,
        kind=_TO_KIND[metric.kind],
        minimum=metric.minimum,
        maximum=metric.maximum,
        clip=metric.clip,
    )
    if isinstance(metric.prior, NormalInverseGammaPrior):
        message.prior.normal_inverse_gamma.CopyFrom(
            pb.NormalInverseGammaPrior(
                mean=metric.prior.mean,
                pseudo_observations=metric.prior.pseudo_observations,
                shape=metric.prior.shape,
                scale=metric.prior.scale,
            )
        )
    return message
