"""Runs as experiments: the declaration sent to a server, and the shares expected from it."""

import secrets

from bandit.assignment import SALT_BYTES
from bandit.experiment import Arm, Experiment
from bandit.limits import ArmStanding, apply_limits
from bandit.policies import DeclaredPolicy, StaticSplit, WeightedSplit
from bandit.posteriors.moments import OutcomeMoments
from bandit.v1 import experiment_pb2 as pb
from benchmarks.regret.players.contestants import Contestant, arm_id
from benchmarks.regret.problems.problem import Problem
from benchmarks.regret.problems.rewards import METRIC
from server.rpc.messages.experiment import declaration_to_message


def declared(name: str, problem: Problem, contestant: Contestant) -> pb.Experiment:
    """Return the experiment of one run; its metric has no window, so that outcomes count at once."""
    experiment = Experiment(
        name=name,
        arms=tuple(Arm(id=arm_id(arm)) for arm in range(problem.n_arms)),
        champion=arm_id(problem.champion),
        policy=_policy(problem, contestant),
        metrics=(problem.metric,),
        reward_metric=METRIC,
        limits=contestant.limits(problem),
        salt=secrets.token_bytes(SALT_BYTES),
    )
    return declaration_to_message(experiment)


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


def _policy(problem: Problem, contestant: Contestant) -> DeclaredPolicy:
    if not isinstance(contestant.policy, StaticSplit):
        return contestant.policy
    weights = contestant.policy.weights or (1.0,) * problem.n_arms
    return WeightedSplit(weights={arm_id(arm): weight for arm, weight in enumerate(weights)})
