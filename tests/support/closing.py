"""A server whose epochs close within seconds, and traffic until some have closed."""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bandit.v1 import bandit_pb2
from tests.support.ledger import stored_epochs
from tests.support.process import ServerProcess, eventually, serving
from tests.support.wire import Wire

WINDOW: Final = 1.0
"""The window of the metric of these tests, in seconds."""

LAG: Final = 0.2

CLOCK_SLACK: Final = 1.0
"""How far a server's clock may lag behind the host's without notice, in seconds."""

SETTINGS_FILE: Final = "bandit-server.toml"
_SETTINGS: Final = {"poll_seconds": 0.05, "lag_seconds": LAG, "epoch_interval_seconds": 0.05}


@contextmanager
def closing_soon(folder: Path) -> Iterator[ServerProcess]:
    """A server on `bandit.db` in a folder, with a file of its settings for other commands."""
    (folder / SETTINGS_FILE).write_text("".join(f"{key} = {value}\n" for key, value in _SETTINGS.items()))
    flags = [text for key, value in _SETTINGS.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    with serving(folder / "bandit.db", *flags) as server:
        yield server


def send_until_closed(server: ServerProcess, name: str, rates: Mapping[str, float], n_epochs: int) -> None:
    """Send decisions, and clicks by arm at these rates, until `n_epochs` have closed and all is counted."""
    wire = Wire(server.address)
    generator = random.Random(7)

    def send() -> int:
        asked = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 100)
        clicked = [each.choice for each in asked if generator.random() < rates[each.choice.arm]]
        rewards = [
            bandit_pb2.RewardRequest(decision_id=c.decision_id, outcomes={"click": 1}) for c in clicked
        ]
        wire.batch_reward(*rewards)
        return len(closed_epochs(server.database, name, time.time() - CLOCK_SLACK))

    eventually(send, until=lambda n_closed: n_closed >= n_epochs)
    wire.report(name)  # adds up what was counted so far
    wire.close()


def closed_epochs(database: Path, name: str, now: float) -> dict[int, dict[str, float]]:
    """Return the shares of the epochs that had closed by `now`, in seconds since 1970."""
    epochs = stored_epochs(database, name)
    ends = [epoch.started_at / 1e6 for epoch in epochs[1:]]
    return {
        epoch.number: epoch.shares
        for epoch, end in zip(epochs, ends, strict=False)
        if end + LAG + WINDOW <= now
    }
