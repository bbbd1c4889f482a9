"""Looks in SQL: the last one at each arm of a launch."""

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from server.store.columns.times import from_micros, to_micros
from server.store.records import StoredLook
from server.store.tables.launch.schema import launch_looks

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
        }
        connection.execute(
            delete(launch_looks).where(launch_looks.c.experiment == experiment, launch_looks.c.arm == arm)
        )
        connection.execute(insert(launch_looks).values(experiment=experiment, arm=arm, **values))
