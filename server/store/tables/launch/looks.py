"""Looks in SQL: the last one at each arm of a launch."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from bandit.launch.claims import ClaimKind, LaunchClaim, ShadowPairs
from bandit.launch.gates import Gate, Hold, HoldCause
from server.store.columns.times import from_micros, to_micros
from server.store.launch_json import to_json
from server.store.records import Heard, StoredLook
from server.store.tables.launch.schema import launch_looks

_SHOWN: Final = ("causes", "gates", "claims", "heard")
_MICROSECOND: Final = timedelta(microseconds=1)


def read(connection: Connection, experiments: Collection[int]) -> dict[int, dict[int, StoredLook]]:
    """Number of the experiment to arm number to the last look at it, for those that were looked at."""
    found: dict[int, dict[int, StoredLook]] = {}
    for row in connection.execute(select(launch_looks).where(launch_looks.c.experiment.in_(experiments))):
        found.setdefault(row.experiment, {})[row.arm] = StoredLook(
            at=from_micros(row.at),
            entry=row.entry,
            covered={int(cycle): us * _MICROSECOND for cycle, us in json.loads(row.covered).items()},
            holds=tuple(json.loads(row.holds)),
            figures=json.loads(row.figures),
            sentence=row.sentence,
            next=row.next,
            next_at=from_micros(row.next_at),
            **_shown_from(json.loads(row.shown)),
        )
    return found


def keep(connection: Connection, experiment: int, looks: Mapping[int, StoredLook]) -> None:
    """Put looks in place of those before."""
    for arm, look in sorted(looks.items()):
        values = {
            "at": to_micros(look.at),
            "entry": look.entry,
            "covered": json.dumps(
                {cycle: covered // _MICROSECOND for cycle, covered in look.covered.items()}
            ),
            "holds": json.dumps(look.holds),
            "figures": json.dumps(dict(look.figures), allow_nan=False),
            "sentence": look.sentence,
            "next": look.next,
            "next_at": to_micros(look.next_at),
            "shown": json.dumps({name: to_json(getattr(look, name)) for name in _SHOWN}, allow_nan=False),
        }
        connection.execute(
            delete(launch_looks).where(launch_looks.c.experiment == experiment, launch_looks.c.arm == arm)
        )
        connection.execute(insert(launch_looks).values(experiment=experiment, arm=arm, **values))


def _shown_from(body: dict[str, Any]) -> dict[str, Any]:
    """What a look showed in full, without what a newer release put there and this one does not know."""
    heard = body.get("heard")
    causes = (hold for hold in body.get("causes", ()) if hold["cause"] in set(HoldCause))
    claims = (claim for claim in body.get("claims", ()) if claim["kind"] in set(ClaimKind))
    return {
        "causes": tuple(map(_hold_from, causes)),
        "gates": tuple(map(_gate_from, body.get("gates", ()))),
        "claims": tuple(map(_claim_from, claims)),
        "heard": None
        if heard is None
        else Heard(**_known(Heard, heard) | {"at": datetime.fromisoformat(heard["at"])}),
    }


def _hold_from(body: dict[str, Any]) -> Hold:
    lasted, skewed = body["lasted"], body["skewed"]
    return Hold(
        **_known(Hold, body)
        | {
            "cause": HoldCause(body["cause"]),
            "lasted": None if lasted is None else timedelta(seconds=lasted),
            "skewed": None if skewed is None else tuple(skewed),
        }
    )


def _gate_from(body: dict[str, Any]) -> Gate:
    opens_at = body["opens_at"]
    instant = None if opens_at is None else datetime.fromisoformat(opens_at)
    return Gate(**_known(Gate, body) | {"opens_at": instant})


def _claim_from(body: dict[str, Any]) -> LaunchClaim:
    pairs = body["pairs"]
    return LaunchClaim(
        **_known(LaunchClaim, body)
        | {
            "kind": ClaimKind(body["kind"]),
            "pairs": None if pairs is None else ShadowPairs(**_known(ShadowPairs, pairs)),
        }
    )


def _known(kind: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    """What this release knows of a body that a newer one may have written."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in body.items() if name in names}
