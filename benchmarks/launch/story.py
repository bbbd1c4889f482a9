"""Stories of launches: traffic that flows to a server until every launch of an experiment is over."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from bandit.v1 import bandit_pb2, event_pb2, experiment_pb2, launch_pb2
from benchmarks.launch.simulated_server import SimulatedServer
from server.cli.experiment_file.file import parse_experiment

CALL_SECONDS: Final = 60.0
_MOST_IN_A_BATCH: Final = 1_000
_MOST_EVENTS: Final = 1_000

_OVER: Final = frozenset(
    {
        launch_pb2.ARM_LAUNCH_STATE_SUCCEEDED,
        launch_pb2.ARM_LAUNCH_STATE_REPLACED,
        launch_pb2.ARM_LAUNCH_STATE_ROLLED_BACK,
        launch_pb2.ARM_LAUNCH_STATE_RETIRED,
        launch_pb2.ARM_LAUNCH_STATE_INCONCLUSIVE,
    }
)

Answer = Callable[[str], Mapping[str, float]]
"""Returns the outcomes of the next decision for an arm, by metric."""

_MIRRORED: Final = "shadow_status"
"""What is posted of every shadow decision; see `bandit.client.BanditClient.mirror`."""


class StoryError(Exception):
    """The server refused what a story needs."""


class Decided(NamedTuple):
    """A decision: its id, the arm, and the number of the epoch that decided."""

    id: str
    arm: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests to an experiment, and how its arms answer.

    Attributes:
        step: How far the clock is moved at a time.
        decisions: Decisions between two moves.
        answer: Makes the outcomes.
        unseen: Metrics that can be measured of an answer that nobody saw, which are posted of shadows.
    """

    step: timedelta
    decisions: int
    answer: Answer
    unseen: Collection[str] = ()


class Story:
    """An experiment from its start until every launch is over. No verb is used.

    Args:
        server: The server.
        name: The experiment, which runs.
        traffic: The requests.

    Attributes:
        began_at: When it began.
        ended_at: When every launch was over; None before.
        counts: Arm to the decisions for it.
        counts_at: When the clock was moved, and the counts until then.
        latest: The decisions since the clock was moved before.
        shadows: The shadow decisions beside them.
    """

    def __init__(self, server: SimulatedServer, name: str, traffic: Traffic) -> None:
        self._server = server
        self._name = name
        self._traffic = traffic
        self.began_at = server.now
        self.ended_at: datetime | None = None
        self.counts: Counter[str] = Counter()
        self.counts_at: dict[datetime, Counter[str]] = {}
        self.latest: list[Decided] = []
        self.shadows: list[Decided] = []

    async def step(self) -> None:
        """Decide, post the outcomes, and move the clock."""
        self.latest, self.shadows = [], []
        n_left = self._traffic.decisions
        while n_left:
            n = min(n_left, _MOST_IN_A_BATCH)
            await self._decide(n)
            n_left -= n
        self.counts.update(each.arm for each in self.latest)
        await self._server.advance(self._traffic.step)
        self.counts_at[self._server.now] = self.counts.copy()
        if all(arm.state in _OVER for arm in (await self.launch()).arms):
            self.ended_at = self._server.now

    async def run(self, most: timedelta, on_step: Callable[[], object] = lambda: None) -> None:
        """Go on until every launch is over, or the time since the beginning is up.

        Raises:
            StoryError: A decision or an outcome was refused.
        """
        while self.ended_at is None and self._server.now - self.began_at < most:
            await self.step()
            on_step()

    async def launch(self) -> launch_pb2.Launch:
        """Return the launch as it is."""
        request = launch_pb2.GetLaunchRequest(name=self._name)
        return await self._server.launches.GetLaunch(request, timeout=CALL_SECONDS)

    async def experiment(self) -> experiment_pb2.Experiment:
        """Return the experiment as it is."""
        request = experiment_pb2.GetExperimentRequest(name=self._name)
        return await self._server.experiments.GetExperiment(request, timeout=CALL_SECONDS)

    async def events(self) -> list[event_pb2.Event]:
        """Return all that happened, in order."""
        events: list[event_pb2.Event] = []
        request = event_pb2.ListEventsRequest(experiment=self._name, page_size=_MOST_EVENTS)
        while True:
            page = await self._server.experiments.ListEvents(request, timeout=CALL_SECONDS)
            events += page.events
            if not page.next_page_token:
                return events
            request.page_token = page.next_page_token

    async def _decide(self, n: int) -> None:
        question = bandit_pb2.ChooseRequest(experiment=self._name)
        request = bandit_pb2.BatchChooseRequest(requests=[question] * n)
        answered = await self._server.bandit.BatchChoose(request, timeout=CALL_SECONDS)
        choices = [each.choice for each in answered.results]
        decided = [Decided(each.decision_id, each.arm, each.epoch) for each in choices]
        shadows = [
            Decided(shadow.decision_id, shadow.arm, choice.epoch)
            for choice in choices
            for shadow in choice.shadow_decisions
        ]
        await post(self._server, {each.id: self._traffic.answer(each.arm) for each in decided})
        await post(self._server, {each.id: self._unseen(each.arm) for each in shadows})
        self.latest += decided
        self.shadows += shadows

    def _unseen(self, arm: str) -> Mapping[str, float]:
        answered = self._traffic.answer(arm)
        return {_MIRRORED: 1.0} | {metric: answered[metric] for metric in self._traffic.unseen}


async def begin(server: SimulatedServer, declared: str) -> str:
    """Create and start the experiment that a file's text declares; return its name."""
    experiment = parse_experiment(declared)
    create = experiment_pb2.CreateExperimentRequest(experiment=experiment)
    await server.experiments.CreateExperiment(create, timeout=CALL_SECONDS)
    start = experiment_pb2.StartExperimentRequest(name=experiment.name)
    await server.experiments.StartExperiment(start, timeout=CALL_SECONDS)
    return experiment.name


async def post(server: SimulatedServer, outcomes: Mapping[str, Mapping[str, float]]) -> None:
    """Post outcomes by decision id; StoryError if one is refused, or isn't new."""
    rewards = [bandit_pb2.RewardRequest(decision_id=id_, outcomes=values) for id_, values in outcomes.items()]
    for start in range(0, len(rewards), _MOST_IN_A_BATCH):
        request = bandit_pb2.BatchRewardRequest(requests=rewards[start : start + _MOST_IN_A_BATCH])
        answered = await server.bandit.BatchReward(request, timeout=CALL_SECONDS)
        for each in answered.results:
            if set(each.reward.results.values()) != {bandit_pb2.OUTCOME_RESULT_RECORDED}:
                raise StoryError(f"an outcome was not recorded: {each}")
