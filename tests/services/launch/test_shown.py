"""What is shown of a launch: the same wherever it is asked for, and as the last look found it in lists."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bandit.launch.claims import ClaimKind
from bandit.launch.plan import Stage, StageKind
from bandit.launch.state import ArmState
from server.services.launch.verbs import Verb
from server.services.reports.launch.view import LaunchView, view_of_looks
from tests.services.launch.conftest import Launch
from tests.services.launch.launched import BANDIT, CANARY, CLICK, NAME, SEEN, Launched, declared

HOLD = {"metric": "", "detail": "", "lasted": None, "skewed": None}
LONG = replace(CANARY, minimum_decisions=10**6)
SHADOW = Stage(kind=StageKind.SHADOW, minimum_decisions=10**6)


def listed(at: Launched) -> LaunchView:
    """Return the launch as lists show it."""
    found = at.service.run(at.service.experiments.get(NAME))
    looks = at.service.run(at.service.experiments.looks([found]))
    assert found.epoch is not None
    return view_of_looks(found.record, looks[found.record.number], found.epoch.shares)


def test_lists_show_what_the_last_look_found(launch: Launch) -> None:
    """To the letter what `launch show` says: sentences, next, gates, holds, claims and shares."""
    at = launch(declared("v2", "v3", stages=[LONG, BANDIT], metrics=[CLICK, SEEN]))
    at.steps(3)
    shown = at.service.run(at.service.launches.get(NAME)).view
    assert listed(at) == shown
    arm = shown.arms[0]
    assert arm.gates
    assert [claim.kind for claim, _ in arm.claims] == [ClaimKind.BETTER, ClaimKind.HARM]
    assert all(claim.log_e_value is not None and claim.log_level is not None for claim, _ in arm.claims)


def test_a_shadow_is_compared_where_launches_are_shown(launch: Launch) -> None:
    """Its pairs stand beside the claim that they are evidence for."""
    at = launch(declared("v2", stages=[SHADOW, BANDIT], metrics=[CLICK, SEEN]))
    at.is_mirroring = True
    at.steps(4)
    assert listed(at) == at.service.run(at.service.launches.get(NAME)).view
    ((_, _), (harm, sentence)) = at.view().claims
    assert harm.pairs is not None
    assert harm.pairs.n > 500
    assert harm.pairs.lower < 0 < harm.pairs.upper
    assert f"in shadow, on {harm.pairs.n:,} pairs" in sentence


def test_of_an_earlier_visit_nothing_is_shown(launch: Launch) -> None:
    """After a move, and before the next look, a list has the new state and none of the old figures."""
    at = launch(declared("v2", stages=[LONG, BANDIT]))
    at.steps(3)
    at.act(Verb.HOLD)
    (arm,) = listed(at).arms
    assert arm.sentence
    at.act(Verb.ROLL_BACK)
    (arm,) = listed(at).arms
    assert (arm.launch.state, arm.sentence, arm.gates, arm.claims) == (ArmState.ROLLED_BACK, "", (), ())


def test_a_look_of_a_newer_release_is_read(launch: Launch, tmp_path: Path) -> None:
    """What this release does not know of it is left out, and an older one kept less of it."""
    at = launch(declared("v2", stages=[LONG, BANDIT]))
    at.steps(2)
    before = listed(at)
    with closing(sqlite3.connect(tmp_path / "launch-0.db")) as database, database:
        ((shown,),) = database.execute("SELECT shown FROM launch_looks").fetchall()
        body = json.loads(shown)
        body["mood"] = "good"
        for each in (*body["gates"], *body["claims"], *body["causes"], body["heard"]):
            each["mood"] = "good"
        body["causes"].append({**HOLD, "cause": "weather"})
        body["claims"].append({**body["claims"][0], "kind": "kinder"})
        database.execute("UPDATE launch_looks SET shown = ?", [json.dumps(body)])
    assert listed(at) == before
    with closing(sqlite3.connect(tmp_path / "launch-0.db")) as database, database:
        database.execute("UPDATE launch_looks SET shown = '{}'")
    (arm,) = listed(at).arms
    assert (arm.sentence, arm.gates) == (before.arms[0].sentence, ())
