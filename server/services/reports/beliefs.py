"""Beliefs about every arm on every metric: what the posteriors say."""

from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from bandit.allocation import ExperimentState
from bandit.metric import Direction
from bandit.posteriors.best_arm import best_arm_summary
from server.store.records import ExperimentRecord


class ArmBeliefs:
    """Observations and posteriors of every arm on every metric.

    Attributes:
        reward: The metric that steers.
        metrics: All metrics, the reward metric first.
        observations: Metric name and arm number to observations.
        posteriors: Metric name and arm number to posterior.
        in_service: Numbers of the arms in service.
        probabilities: Arm number to P(best), of arms in service.
        losses: Arm number to expected loss, of arms in service; may be infinite.
    """

    def __init__(self, record: ExperimentRecord, state: ExperimentState) -> None:
        declared = record.experiment
        self._champion = record.arm_numbers[declared.champion]
        self.reward = declared.metric(declared.reward_metric)
        self.metrics = (self.reward, *(each for each in declared.metrics if each is not self.reward))
        all_arms = list(record.arm_numbers.values())
        self.observations = {metric.name: state.observations(metric, all_arms) for metric in self.metrics}
        self.posteriors = {
            metric.name: state.beliefs(metric, self.observations[metric.name]) for metric in self.metrics
        }
        in_service = record.arms_in_service
        self.in_service = [record.arm_numbers[arm.id] for arm in declared.arms if arm.id in in_service]
        self.probabilities, self.losses = self._summarise()

    def _summarise(self) -> tuple[dict[int, float], dict[int, float]]:
        if not self.in_service:
            return {}, {}
        posteriors = [self.posteriors[self.reward.name][arm] for arm in self.in_service]
        summary = best_arm_summary(posteriors, maximize=self.reward.direction is Direction.MAXIMIZE)
        return self._by_arm(summary.probabilities), self._by_arm(summary.expected_losses)

    def _by_arm(self, values: NDArray[np.float64]) -> dict[int, float]:
        return dict(zip(self.in_service, values.tolist(), strict=True))

    @property
    def champion_loss(self) -> float | None:
        """The champion's expected loss relative to its mean; None where either is missing."""
        loss, sums = (
            self.losses.get(self._champion, inf),
            self.observations[self.reward.name][self._champion].sums,
        )
        return None if not isfinite(loss) or sums.n == 0 or sums.mean == 0 else loss / abs(sums.mean)
