"""Arms in shadow over the wire: who sees a request, what is posted of it, and that nothing else changes."""

from collections.abc import Iterator
from typing import Final

import pytest

from bandit.v1 import bandit_pb2, experiment_pb2, launch_pb2
from tests.support.process import eventually
from tests.support.talk import Talk
from tests.support.wire import Wire, metric

pytestmark = pytest.mark.both_listeners
RECORDED: Final = bandit_pb2.OUTCOME_RESULT_RECORDED
PLAN: Final = launch_pb2.LaunchPlan(
    mode=launch_pb2.LAUNCH_MODE_AUTOMATIC,
    stages=[
        launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_SHADOW),
        launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_CANARY, share=0.01),
        launch_pb2.LaunchStage(kind=launch_pb2.LAUNCH_STAGE_KIND_BANDIT),
    ],
)


@pytest.fixture
def name(wire: Wire) -> str:
    """A running experiment whose challenger b is in shadow."""
    metrics = [metric("click"), metric("error", direction=experiment_pb2.DIRECTION_MINIMIZE, shadow=True)]
    return wire.running(metrics=metrics, launch=PLAN)


@pytest.fixture
def talk(wire: Wire) -> Iterator[Talk]:
    """A stream of Choose."""
    opened = Talk(wire, timeout=60.0)
    yield opened
    opened.close()


def test_every_call_names_who_sees_the_request(wire: Wire, name: str, talk: Talk) -> None:
    """Choose, BatchChoose and ChooseStream: the champion answers, and b sees it under its own decision."""
    request = bandit_pb2.ChooseRequest(experiment=name, unit="user-1")
    answers = [
        wire.choose(name, unit="user-1"),
        *(result.choice for result in wire.batch_choose(*[request] * 20)),
        talk.ask(name, unit="user-1").choice,
    ]
    ids = set[str]()
    for answer in answers:
        (shadow,) = answer.shadow_decisions
        assert (answer.arm, shadow.arm, shadow.propensity) == ("a", "b", 1.0)
        assert list(answer.shadow_arms) == []
        ids |= {answer.decision_id, shadow.decision_id}
    assert len(ids) == 2 * len(answers)


def test_an_epoch_says_what_it_shows_to_whom(wire: Wire, name: str) -> None:
    """The champion has the whole traffic, and b sees all of it."""
    epoch = wire.get(name).epoch
    assert (dict(epoch.shares), dict(epoch.shadows)) == ({"a": 1.0, "b": 0.0}, {"b": 1.0})


def test_rewards_of_a_shadow_are_credited_to_it_alone(wire: Wire, name: str) -> None:
    """They are recorded like any, counted as what the arm saw, and no figure of an answer changes."""
    answer = wire.choose(name)
    (shadow,) = answer.shadow_decisions
    assert wire.reward(answer.decision_id, {"click": 1.0, "error": 0.0}) == {
        "click": RECORDED,
        "error": RECORDED,
    }
    assert wire.reward(shadow.decision_id, {"error": 1.0}) == {"error": RECORDED}
    repeated = wire.reward(shadow.decision_id, {"error": 1.0})
    assert repeated == {"error": bandit_pb2.OUTCOME_RESULT_DUPLICATE}
    champion, challenger = eventually(
        lambda: wire.report(name).arms, until=lambda arms: arms[1].decisions.shadow == 1
    )
    assert (champion.decisions.policy, champion.decisions.shadow) == (1, 0)
    assert (challenger.decisions.policy, challenger.decisions.shadow) == (0, 1)
    for each in challenger.metrics:
        assert (each.outcomes, each.open_outcomes, each.late_outcomes) == (0, 0, 0)
    assert sum(each.outcomes + each.open_outcomes for each in champion.metrics) == 2


def test_an_arm_in_shadow_is_not_served(wire: Wire, name: str) -> None:
    """A caller that can serve only that arm gets the champion, and neither pin nor shadow comes of it."""
    (shadow,) = wire.choose(name).shadow_decisions
    named = wire.choose(name, eligible_arms=["b"])
    assert (named.arm, named.reason) == ("a", bandit_pb2.REASON_NO_ELIGIBLE_ARM)
    assert not named.shadow_decisions
    pinned = wire.choose(name, previous_decision_id=shadow.decision_id)
    assert (pinned.arm, pinned.reason) == ("a", bandit_pb2.REASON_POLICY)
