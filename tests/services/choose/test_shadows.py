"""Shadow decisions: beside new policy decisions of the champion, each an ordinary decision of its own."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from bandit.decision_id import Basis
from bandit.experiment import AnalysisUnit, Arm
from bandit.facts import Epoch
from bandit.launch import moves
from bandit.launch.launching import Occasion
from bandit.launch.plan import LaunchPlan, Stage, StageKind
from bandit.launch.shadow_id import N_SAMPLES, sample_of, shadow_id
from bandit.v1 import bandit_pb2
from server.rpc.messages.answers import encode_choice, encode_choice_of_stream, encode_choices
from server.services.choose.chooser import Choice, Question
from server.services.snapshot.offers import Reason
from server.store.records import ExperimentRecord, State
from tests.bandit.builders import START, declare
from tests.services.support import LAG, MAX_STALENESS, SIGNER, Bench, epoch_with, flush_of, running

SHADOW = Stage(kind=StageKind.SHADOW)
BANDIT = Stage(kind=StageKind.BANDIT)
OCCASION = Occasion(at=START, revision=2, actor="anna")
ARMS = (Arm(id="a"), Arm(id="b"), Arm(id="c", model_uri="models:/c", payload={"k": 1.0}), Arm(id="d"))


def launched(sample: float = 1.0, unit: AnalysisUnit = AnalysisUnit.DECISION) -> ExperimentRecord:
    """Return an experiment with champion a, b in the bandit stage, and c and d in shadow."""
    plan = LaunchPlan(stages=(replace(SHADOW, sample=sample), BANDIT))
    declared = replace(declare(arms=ARMS), launch=plan, analysis_unit=unit)
    launch = moves.admitted(moves.begun(declared, OCCASION, is_started=False), OCCASION)
    return replace(running(declared), launch=moves.advanced(launch, "b", OCCASION).launch)


def bench_of(record: ExperimentRecord, champion: float = 0.75) -> Bench:
    """Return a chooser of an epoch in which the champion has this share, and b the rest."""
    assert record.launch is not None
    samples = {record.arm_numbers[arm]: sample for arm, sample in record.launch.samples.items()}
    return Bench(record, seen_by(epoch_with(record, {"a": champion, "b": 1 - champion}), samples))


def seen_by(epoch: Epoch, samples: dict[int, float]) -> Epoch:
    """Return the epoch with arms in shadow."""
    return replace(epoch, shadows=samples)


def answers(bench: Bench, n: int = 400) -> list[Choice]:
    """Return answers to as many questions, alone."""
    return [bench.chooser.choose(bench.experiment, f"user-{number}") for number in range(n)]


def seen(choices: Iterable[Choice]) -> Counter[tuple[str, str]]:
    """Return how often each arm saw a decision of each arm."""
    return Counter(
        (choice.offer.arm.id, shadow.offer.arm.id) for choice in choices for shadow in choice.shadows
    )


def struct_of(payload: Mapping[str, object]) -> Struct:
    """Return a payload's message."""
    return json_format.ParseDict(dict(payload), Struct())


@pytest.fixture
def bench() -> Bench:
    """A chooser of an experiment with two arms in shadow, which see every decision of the champion."""
    return bench_of(launched())


def test_shadows_see_the_champions_decisions_only(bench: Bench) -> None:
    """Every decision of the champion, and none of another arm."""
    choices = answers(bench)
    n_champion = sum(choice.offer.arm.id == "a" for choice in choices)
    assert 0 < n_champion < len(choices)
    assert seen(choices) == {("a", "c"): n_champion, ("a", "d"): n_champion}


def test_a_shadow_decision_is_an_ordinary_one() -> None:
    """It has the shadow's own arm, its sample as propensity, and tells the decision's id."""
    (choice,) = answers(bench_of(launched(), champion=1.0), 1)
    parent = SIGNER.read(choice.decision_id)
    for shadow in choice.shadows:
        own = SIGNER.read(shadow.decision_id)
        assert own.terms == parent.terms._replace(
            arm=shadow.offer.terms.arm, basis=Basis.SHADOW, propensity=1.0
        )
        assert own.id != parent.id
        assert own.id[:14] == parent.id[:14]
        assert shadow_id(own.id, own.terms.arm) == parent.id
        assert own.unit_hash == parent.unit_hash
    assert len({choice.decision_id, *(shadow.decision_id for shadow in choice.shadows)}) == 3


def test_the_sample_is_decided_by_the_id_with_its_exact_probability() -> None:
    """Of 0.3, 19,661 of 65,536 ids are seen, and the propensity says so."""
    choices = answers(bench_of(launched(0.3), champion=1.0), 2_000)
    for choice in choices:
        is_seen = sample_of(SIGNER.read(choice.decision_id).id) < 19_661
        assert len(choice.shadows) == (2 if is_seen else 0)
        for shadow in choice.shadows:
            assert SIGNER.read(shadow.decision_id).terms.propensity == 19_661 / N_SAMPLES
    assert (
        450 < sum(map(bool, (choice.shadows for choice in choices))) < 750
    )  # 600, and 7 standard deviations


@pytest.mark.parametrize("n", [1, 5, 6, 300])
def test_batches_have_the_same_shadows(bench: Bench, n: int) -> None:
    """However many questions come together."""
    batch = bench.chooser.choose_each([(bench.experiment, f"user-{number}") for number in range(n)])
    assert seen(batch) == seen(answers(bench, n))


def test_an_answer_that_is_no_new_policy_decision_has_none() -> None:
    """Pinned, restricted, paused, unconfirmed and stale answers, also of the champion."""
    record = launched()
    bench = bench_of(record, champion=1.0)
    (choice,) = answers(bench, 1)
    ask = bench.chooser.choose_within
    pinned = ask(bench.experiment, Question(unit="user-0", previous_decision_id=choice.decision_id))
    restricted = ask(bench.experiment, Question(eligible_arms=["a"]))
    assert (pinned.offer.reason, pinned.shadows) == (Reason.PINNED, ())
    assert (restricted.offer.terms.basis, restricted.shadows) == (Basis.RESTRICTED, ())
    whole = ask(bench.experiment, Question(eligible_arms=["a", "b", "c"]))
    assert (whole.offer.terms.basis, len(whole.shadows)) == (Basis.POLICY, 2), "nothing was restricted"
    for seconds in (LAG + 1, MAX_STALENESS):
        bench.clock.advance(seconds)
        (late,) = answers(bench, 1)
        assert (late.offer.arm.id, late.shadows) == ("a", ())
    paused = bench_of(replace(record, state=State.PAUSED), champion=1.0)
    assert [each.shadows for each in answers(paused, 2)] == [(), ()]


def test_an_arm_in_shadow_can_not_answer(bench: Bench) -> None:
    """Neither by name nor with its own decision as the previous one."""
    named = bench.chooser.choose_within(bench.experiment, Question(eligible_arms=["c"]))
    assert (named.offer.arm.id, named.offer.reason) == ("a", Reason.NO_ELIGIBLE_ARM)
    (choice,) = answers(bench_of(launched(), champion=1.0), 1)
    previous = Question(unit="user-0", previous_decision_id=choice.shadows[0].decision_id)
    assert bench.chooser.choose_within(bench.experiment, previous).offer.reason is Reason.POLICY


def test_an_arm_that_was_taken_out_sees_nothing() -> None:
    """An operator's word holds from the next load on, whatever the epoch says."""
    record = launched()
    arms = tuple(replace(arm, is_taken_out=arm.id == "d") for arm in ARMS)
    out = replace(record, experiment=replace(record.experiment, arms=arms))
    assert set(seen(answers(bench_of(out)))) == {("a", "c")}


@pytest.mark.parametrize("unit", AnalysisUnit)
def test_shadow_decisions_are_counted_apart(unit: AnalysisUnit) -> None:
    """Under their own arm and basis, in the flush that their ids name; no unit and no group is noted."""
    bench = bench_of(launched(unit=unit), champion=1.0)
    answers(bench, 100)
    flush = flush_of(bench.counter)
    assert flush is not None
    counts = {(key.arm, key.basis): count for key, count in flush.counts.items()}
    assert counts == {(0, Basis.POLICY): 100, (2, Basis.SHADOW): 100, (3, Basis.SHADOW): 100}
    units = [(key.arm, len(marks)) for key, marks in flush.units]
    assert units == ([(0, 100)] if unit is AnalysisUnit.UNIT else [])
    assert sum(sum(groups.values()) for groups in flush.groups.values()) == (
        100 if unit is AnalysisUnit.DECISION else 0
    )


def test_every_response_carries_the_shadows() -> None:
    """Choose, ChooseStream and BatchChoose; and responses without any are as they were."""
    (choice,) = answers(bench_of(launched(), champion=1.0), 1)
    age = bandit_pb2.ChooseResponse(snapshot_age=Duration(seconds=1)).SerializeToString()
    response = bandit_pb2.ChooseResponse.FromString(encode_choice(choice, age))
    expected = [
        bandit_pb2.ShadowDecision(
            arm=shadow.offer.arm.id,
            decision_id=shadow.decision_id,
            propensity=1.0,
            model_uri=shadow.offer.arm.model_uri,
            payload=struct_of(dict(shadow.offer.arm.payload)),
        )
        for shadow in choice.shadows
    ]
    assert list(response.shadow_decisions) == expected
    assert (response.decision_id, list(response.shadow_arms)) == (choice.decision_id, [])
    streamed = bandit_pb2.ChooseStreamResponse.FromString(encode_choice_of_stream(choice, age))
    assert streamed.choice == response
    plain = choice._replace(shadows=())
    batch = bandit_pb2.BatchChooseResponse.FromString(encode_choices([plain, choice, plain], age, None))
    without = bandit_pb2.ChooseResponse.FromString(encode_choice(plain, age))
    assert [result.choice for result in batch.results] == [without, response, without]
    assert not without.shadow_decisions
