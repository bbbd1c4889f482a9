"""Posts as Standard Webhooks has them (standardwebhooks.com), version 1.

A post has a body, and three headers: `webhook-id` is the same in each attempt, `webhook-timestamp` is the
time of the attempt, and `webhook-signature` has a signature of both and the body for each secret.
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from server.store.records import Event


@dataclass(frozen=True, slots=True)
class Post:
    """A request that is to be sent.

    Attributes:
        headers: Its headers, without those of HTTP itself.
        body: Its body.
    """

    headers: Mapping[str, str]
    body: bytes


def make_post(event: Event, secrets: Sequence[bytes], now: datetime) -> Post:
    """Return the post of an event, signed now with each secret."""
    body = json.dumps(_body_of(event), separators=(",", ":")).encode()
    event_id = f"event_{event.experiment}_{event.sequence}"
    timestamp = str(int(now.timestamp()))
    signed = b".".join((event_id.encode(), timestamp.encode(), body))
    headers = {
        "content-type": "application/json",
        "user-agent": "bandit-allocator",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }
    return Post(headers, body)


def _signature(secret: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def _body_of(event: Event) -> Mapping[str, object]:
    return {
        "type": f"experiment.{event.kind}",
        "timestamp": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": {
            "experiment": event.name,
            "sequence": event.sequence,
            "arm": event.arm,
            "actor": event.actor,
            "request_id": event.request_id,
            "revision": event.revision,
            "epoch": event.epoch,
            "reason": event.reason,
            "figures": dict(event.figures),
        },
    }
