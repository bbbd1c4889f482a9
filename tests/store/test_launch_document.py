"""The document of an experiment with a launch: what code that knows no launches makes of it."""

import json
from dataclasses import replace

import pytest

from bandit.experiment import Experiment
from bandit.launch.plan import LaunchPlan, Stage, StageKind
from bandit.limits import Limits
from server.store.declaration_json import WRITTEN_ALWAYS, Declaration, from_document, to_document
from tests.bandit.builders import declare

PLAN = LaunchPlan(stages=(Stage(kind=StageKind.BANDIT),))


def document_of(experiment: Experiment) -> str:
    """Return the document of an experiment that has not started."""
    declaration = Declaration(experiment=experiment, arm_numbers={}, metric_numbers={}, winner=None)
    return to_document(declaration)


@pytest.mark.parametrize("reserve", [0.0, 0.2])
def test_the_reserve_is_no_key_of_the_limits(reserve: float) -> None:
    """An old server that was frozen while a launch began reads its limits, and the reserve comes back."""
    limits = Limits(minimum_share=0.05, champion_minimum_share=reserve)
    experiment = replace(declare(limits=limits), launch=PLAN)
    document = document_of(experiment)
    assert set(json.loads(document)["limits"]) == WRITTEN_ALWAYS[Limits]
    found = from_document(document)
    assert (found.experiment, found.unknown) == (experiment, ())


def test_a_reserve_among_the_limits_is_read() -> None:
    """A document that has it there means the same."""
    limits = Limits(champion_minimum_share=0.2)
    body = json.loads(document_of(replace(declare(limits=limits), launch=PLAN)))
    body["limits"]["champion_minimum_share"] = body["launch"].pop("champion_minimum_share")
    assert from_document(json.dumps(body)).experiment.limits == limits
