"""A running experiment as a line of JSON, and back: what Choose needs of it, and nothing else."""

import json
from typing import Any

from bandit.facts import Epoch
from server.store.documents import Declaration, from_document, to_document
from server.store.records import ExperimentRecord, LiveExperiment, State
from server.store.times import from_micros, to_micros


def to_line(live: LiveExperiment) -> bytes:
    """The line of an experiment and its epoch in force, without its end."""
    record = live.record
    declaration = Declaration(
        experiment=record.experiment,
        arm_numbers=record.arm_numbers,
        metric_numbers=record.metric_numbers,
        winner=record.winner,
    )
    body = {
        "number": record.number,
        "state": record.state,
        "revision": record.revision,
        "created_at": to_micros(record.created_at),
        "updated_at": to_micros(record.updated_at),
        "started_at": to_micros(record.started_at),
        "concluded_at": to_micros(record.concluded_at),
        "document": to_document(declaration),
        "epoch": None if live.epoch is None else _epoch_to_json(live.epoch),
        "unknown": record.unknown,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def from_line(line: bytes) -> LiveExperiment:
    """The inverse of `to_line`; KeyError, TypeError or ValueError for what it did not write."""
    body = json.loads(line)
    declaration = from_document(body["document"])
    record = ExperimentRecord(
        number=body["number"],
        experiment=declaration.experiment,
        state=State(body["state"]),
        revision=body["revision"],
        arm_numbers=declaration.arm_numbers,
        metric_numbers=declaration.metric_numbers,
        winner=declaration.winner,
        created_at=from_micros(body["created_at"]),
        updated_at=from_micros(body["updated_at"]),
        started_at=from_micros(body["started_at"]),
        concluded_at=from_micros(body["concluded_at"]),
        unknown=(*declaration.unknown, *body.get("unknown", ())),
    )
    return LiveExperiment(record, None if body["epoch"] is None else _epoch_from_json(body["epoch"]))


def _epoch_to_json(epoch: Epoch) -> dict[str, Any]:
    return {
        "experiment": epoch.experiment,
        "segment": epoch.segment,
        "number": epoch.number,
        "nonce": epoch.nonce,
        "revision": epoch.revision,
        "started_at": to_micros(epoch.started_at),
        "champion": epoch.champion,
        "shares": dict(epoch.shares),
        "warming_up": sorted(epoch.warming_up),
        "means": {metric: dict(means) for metric, means in epoch.means.items()},
    }


def _epoch_from_json(body: dict[str, Any]) -> Epoch:
    """JSON turns the numbers that are keys into text."""
    return Epoch(
        **body
        | {
            "started_at": from_micros(body["started_at"]),
            "shares": {int(arm): float(share) for arm, share in body["shares"].items()},
            "warming_up": frozenset(body["warming_up"]),
            "means": {
                int(metric): {int(arm): float(mean) for arm, mean in means.items()}
                for metric, means in body["means"].items()
            },
        }
    )
