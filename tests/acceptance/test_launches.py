"""The story of a launch, from the first request to the end, through a real server whose clock is moved.

No verb is used: what happens is what the plan says. Arms answer at exactly their rates, and the server's
draws have a seed, so that chance has no part in these stories.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToDict

from bandit.decision_id import Basis
from bandit.facts import Tally
from bandit.v1 import bandit_pb2, event_pb2, experiment_pb2, launch_pb2
from benchmarks.launch.simulated_server import SimulatedServer, simulated_server
from benchmarks.launch.story import CALL_SECONDS, Decided, Story, Traffic, begin, post
from server.services.runtime.async_store import Thread
from tests.support.answers import answering

STEP: Final = timedelta(minutes=5)
MOST: Final = timedelta(hours=8)
DECLARED: Final = """
name = "ranker"
champion = "v1"
reward_metric = "click"
arms = [{ id = "v1" }, { id = "v2" }]

[limits]
champion_minimum_share = 0.2

[[metrics]]
name = "click"
kind = "binary"
window = "1m"
default_value = 0

[[metrics]]
name = "error"
kind = "binary"
direction = "minimize"
guardrail = true
window = "1m"
default_value = 0
shadow = true

[[metrics]]
name = "shadow_status"
kind = "binary"

[[metrics]]
name = "spend"
kind = "real"
maximum = 100

[launch]
mode = "automatic"
cycle = "1h"
stages = [
  { kind = "shadow", sample = 0.2 },
  { kind = "canary", share = 0.05 },
  { kind = "ramp", shares = [0.1, 0.25] },
  { kind = "bandit", maximum_duration = "2h" },
]
holdback = { share = 0.05, cycles = 1 }
"""
SHADOW: Final = '  { kind = "shadow", sample = 0.2 },\n'


def steps(events: list[event_pb2.Event]) -> list[tuple[str, str]]:
    """Return arm and what it entered, without looks and what held it."""
    entered = [event for event in events if event.arm and event.kind not in {"look", "blocked"}]
    return [
        (event.arm, MessageToDict(event.figures)["to"] if event.kind == "stage" else event.kind)
        for event in entered
    ]


async def shares(story: Story) -> dict[str, float]:
    """Return the shares in force."""
    return dict((await story.experiment()).epoch.shares)


async def spends(server: SimulatedServer, names: Mapping[int, str]) -> Counter[tuple[str, int, Basis]]:
    """Return how many outcomes of spend are stored for each arm, epoch and basis."""
    found = await server.services.store.run(Thread.READ, lambda store: store.read_facts(1))
    assert found is not None
    columns = found.facts.outcome_columns[found.record.metric_numbers["spend"]]
    counts = columns.tallies[:, Tally._fields.index("n")]
    cells = columns.cells
    keys = zip(cells.arm.tolist(), cells.epoch.tolist(), cells.basis.tolist(), strict=True)
    spent: Counter[tuple[str, int, Basis]] = Counter()
    for (arm, epoch, basis), n in zip(keys, counts.tolist(), strict=True):
        spent[names[arm], epoch, Basis(basis)] += int(n)
    return +spent


async def test_a_better_challenger_becomes_the_only_arm(tmp_path: Path) -> None:
    """It passes every stage by itself, and every decision on the way is credited to its own arm and epoch.

    So are those of the champion that it replaced, after that arm was removed.
    """
    answer = answering(click={"v1": 0.1, "v2": 0.2}, error={"v1": 0.02, "v2": 0.02})
    async with simulated_server(tmp_path, step=STEP, seed=1) as server:
        story = Story(
            server,
            await begin(server, DECLARED),
            Traffic(step=STEP, decisions=600, answer=answer, unseen=["error"]),
        )
        kept: list[Decided] = []
        mirrored: list[Decided] = []

        def keep() -> None:
            kept.extend(story.latest[::25])
            mirrored.extend(story.shadows[::25])

        await story.run(MOST, keep)
        events = await story.events()
        assert steps(events) == [
            ("v2", "shadow"),
            ("v2", "canary at 5 %"),
            ("v2", "ramp at 10 %"),
            ("v2", "ramp at 25 %"),
            ("v2", "bandit"),
            ("v2", "promoted"),
            ("v1", "holdback"),
            ("v2", "succeeded"),
            ("v1", "replaced"),
        ]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert {event.actor for event in events if event.epoch > 1} == {"controller"}
        assert all(event.reason for event in events if event.epoch > 1)
        assert (await story.launch()).champion == "v2"
        assert await shares(story) == {"v1": 0.0, "v2": 1.0}

        experiment = await story.experiment()
        del experiment.arms[0]
        update = experiment_pb2.UpdateExperimentRequest(experiment=experiment)
        update.update_mask.paths.append("arms")
        await server.experiments.UpdateExperiment(update, timeout=CALL_SECONDS)
        await post(server, {decided.id: {"spend": 1.0} for decided in [*kept, *mirrored]})
        counted = Counter((decided.arm, decided.epoch, Basis.POLICY) for decided in kept)
        counted += Counter((decided.arm, decided.epoch, Basis.SHADOW) for decided in mirrored)
        assert await spends(server, {0: "v1", 1: "v2"}) == counted
        assert len(mirrored) > 10
        is_of_v1 = [decided.arm == "v1" for decided in kept]
        assert 0.1 < sum(is_of_v1) / len(kept) < 0.9


async def test_a_harmful_challenger_is_pulled(tmp_path: Path) -> None:
    """One that doubles errors is rolled back in its first stages, and its traffic is the champion's again."""
    answer = answering(click={"v1": 0.1, "v2": 0.1}, error={"v1": 0.05, "v2": 0.1})
    async with simulated_server(tmp_path, step=STEP, seed=1) as server:
        story = Story(
            server,
            await begin(server, DECLARED.replace(SHADOW, "")),
            Traffic(step=STEP, decisions=600, answer=answer, unseen=["error"]),
        )
        await story.run(MOST)
        events = await story.events()
        assert steps(events)[0] == ("v2", "canary at 5 %")
        assert steps(events)[-1] == ("v2", "rolled_back")
        assert {what for _, what in steps(events)[1:-1]} <= {"ramp at 10 %", "ramp at 25 %"}
        assert "error" in events[-1].reason
        figures = MessageToDict(events[-1].figures)
        assert figures["e_value"] >= figures["level"]
        assert await shares(story) == {"v1": 1.0, "v2": 0.0}
        await story.step()
        assert {decided.arm for decided in story.latest} == {"v1"}
        assert story.counts["v2"] < 0.1 * story.counts["v1"]


async def test_an_equal_challenger_ends_inconclusive(tmp_path: Path) -> None:
    """When the bandit stage has lasted as long as it may, nothing is shipped."""
    answer = answering(click={"v1": 0.1, "v2": 0.1}, error={"v1": 0.02, "v2": 0.02})
    async with simulated_server(tmp_path, step=STEP, seed=1) as server:
        story = Story(
            server,
            await begin(server, DECLARED),
            Traffic(step=STEP, decisions=600, answer=answer, unseen=["error"]),
        )
        await story.run(MOST)
        assert steps(await story.events()) == [
            ("v2", "shadow"),
            ("v2", "canary at 5 %"),
            ("v2", "ramp at 10 %"),
            ("v2", "ramp at 25 %"),
            ("v2", "bandit"),
            ("v2", "inconclusive"),
        ]
        launch = await story.launch()
        assert (launch.champion, launch.former_champion) == ("v1", "")
        assert launch.arms[0].state == launch_pb2.ARM_LAUNCH_STATE_INCONCLUSIVE
        assert await shares(story) == {"v1": 1.0, "v2": 0.0}
        eligible = bandit_pb2.ChooseRequest(experiment="ranker", eligible_arms=["v2"])
        assert (await server.bandit.Choose(eligible, timeout=CALL_SECONDS)).arm == "v1"
