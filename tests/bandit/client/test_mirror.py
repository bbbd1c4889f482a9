"""`mirror` measures an arm in shadow and always posts; what the shadow raises never reaches the request."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from google.protobuf.struct_pb2 import Struct

from bandit.client import AsyncBanditClient, Fallback, Question, ShadowDecision
from bandit.client.aio.mirroring import AsyncMirroring
from bandit.client.blocking.mirroring import Mirroring
from bandit.v1 import bandit_pb2
from tests.bandit.client.blocks import ALL, posted, records
from tests.bandit.client.peer import AnyClient, Peer, Script, answer, settle

V0 = Fallback("v0")
PAYLOAD = Struct()
PAYLOAD.update({"top_k": 10})
SHADOWS = [
    bandit_pb2.ShadowDecision(
        arm="v3", decision_id="of v3", propensity=0.5, model_uri="models:/3", payload=PAYLOAD
    ),
    bandit_pb2.ShadowDecision(arm="v4", decision_id="of v4", propensity=1.0),
]
CHOICE = bandit_pb2.ChooseResponse(arm="v1", decision_id="signed", shadow_decisions=SHADOWS)
SHADOW = ShadowDecision(arm="v3", decision_id="of v3")


@pytest.fixture(autouse=True)
def _answers(script: Script) -> None:
    """The peer chooses v1, which v3 and v4 see in shadow, and records everything."""
    script.on("Choose", answer(CHOICE))
    result = bandit_pb2.BatchChooseResult(choice=CHOICE)
    script.on("BatchChoose", answer(bandit_pb2.BatchChooseResponse(results=[result])))
    script.on("BatchReward", records(ALL | {"shadow_status"}))


@asynccontextmanager
async def entered(block: Mirroring | AsyncMirroring) -> AsyncIterator[ShadowDecision]:
    """Enter a block of either client."""
    if isinstance(block, AsyncMirroring):
        async with block as shadow:
            yield shadow
    else:
        with block as shadow:
            yield shadow


async def test_a_choice_hands_out_its_shadows(client: AnyClient) -> None:
    """Alone and in a batch: arm, decision, model and payload of each."""
    alone = await settle(client.choose("ranker", fallback=V0))
    (batched,) = await settle(client.batch_choose([Question(experiment="ranker", fallback=V0)]))
    for choice in (alone, batched):
        first, second = choice.shadows
        assert (first.arm, first.decision_id, first.propensity) == ("v3", "of v3", 0.5)
        assert (first.model_uri, first.payload) == ("models:/3", {"top_k": 10.0})
        assert (second.arm, second.payload) == ("v4", {})


async def test_a_shadow_that_answers_is_measured(client: AnyClient, script: Script) -> None:
    """Its time, no error, and that it answered, under its own decision."""
    choice = await settle(client.choose("ranker", fallback=V0))
    for shadow in choice.shadows:
        async with entered(client.mirror("ranker", shadow)) as seen:
            assert seen is shadow
            await asyncio.sleep(0.01)
    await settle(client.close())
    outcomes = posted(script)
    assert [each.pop("latency_ms") >= 10 for each in outcomes] == [True, True]
    assert outcomes == [{"shadow_status": 1.0, "error": 0.0, "no_answer": 0.0}] * 2
    (batch,) = map(bandit_pb2.BatchRewardRequest.FromString, script.requests("BatchReward"))
    assert [each.decision_id for each in batch.requests] == ["of v3", "of v4"]


async def test_what_a_shadow_raises_is_posted_and_goes_no_further(
    client: AnyClient, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error of the shadow; the log has it, and the request goes on."""
    models = {"v3": 0}
    with caplog.at_level(logging.WARNING, "bandit.client"):
        async with entered(client.mirror("ranker", SHADOW)) as shadow:
            1 // models[shadow.arm]
    await settle(client.close())
    (outcomes,) = posted(script)
    assert (outcomes["shadow_status"], outcomes["error"]) == (0.0, 1.0)
    assert "arm 'v3' failed in shadow" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
async def test_a_shadow_that_is_given_up_did_not_answer(
    client: AnyClient, script: Script, error: BaseException
) -> None:
    """That much is posted, and nothing that would blame the arm; the error goes on."""
    with pytest.raises(type(error)):
        async with entered(client.mirror("ranker", SHADOW)):
            raise error
    await settle(client.close())
    assert posted(script) == [{"shadow_status": 0.0}]


async def test_a_timeout_around_a_shadow_is_posted(peer: Peer, script: Script) -> None:
    """A model that is too slow for `asyncio.timeout` has not answered."""
    async with AsyncBanditClient(peer.target, choose_timeout=10.0) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), client.mirror("ranker", SHADOW):
                await asyncio.sleep(60)
    assert posted(script) == [{"shadow_status": 0.0}]


async def test_arguments_are_checked(client: AnyClient) -> None:
    """Before the block begins."""
    with pytest.raises(TypeError, match="shadow must be a ShadowDecision"):
        client.mirror("ranker", cast("ShadowDecision", "of v3"))
    with pytest.raises(ValueError, match="longest_ms must be more than zero and finite"):
        client.mirror("ranker", SHADOW, longest_ms=0)
    block = client.mirror("ranker", SHADOW)
    async with entered(block):
        pass
    with pytest.raises(RuntimeError, match="call mirror for each block"):
        async with entered(block):
            pass
