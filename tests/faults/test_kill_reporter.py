"""kill -9 of a reporter with an outbox, and of the service: every reward that was kept counts, and once.

The reporter notes each decision after the outbox has returned for it, and is killed at random moments. The
check is sensitive: it fails unless kills left rewards to a later reporter.
"""

import logging
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bandit.client import BanditClient, Fallback, Question, RewardOutbox
from benchmarks.harness.processes import REPOSITORY, clean_environment, free_port
from tests.conftest import Connect, StartServer
from tests.support.ledger import decision_of, query
from tests.support.process import verify

N_DECISIONS: Final = 30_000
N_KILLS: Final = 20
SEED: Final = 4_711
REPORTER: Final = """
import os, sys
from bandit.client import BanditClient, RetryPolicy, RewardOutbox
target, path, decisions, kept = sys.argv[1:]
noted = os.open(kept, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
ids = open(decisions).read().split()
outbox = RewardOutbox(path, BanditClient(target, retry=RetryPolicy(timeout=0.3)))
print(len(outbox), flush=True)
for number in range(os.path.getsize(kept) // 8, len(ids)):
    outbox.reward(ids[number], {"click": number % 2})
    os.write(noted, b"%07d\\n" % number)
"""

log = logging.getLogger(__name__)


def decide(address: str, name: str) -> list[str]:
    """Return the ids of decisions."""
    question = Question(experiment=name, fallback=Fallback("none"))
    with BanditClient(address, batch_choose_timeout=60.0) as client:
        return [
            choice.decision_id
            for _ in range(N_DECISIONS // 1000)
            for choice in client.batch_choose([question] * 1000)
        ]


def start_reporter(target: str, folder: Path, chance: random.Random) -> tuple["subprocess.Popen[str]", int]:
    """Start a reporter, and return it at a moment that may be before it has opened its outbox, or after.

    The number is how many rewards it found in the outbox.
    """
    files = [str(folder / name) for name in ("rewards.db", "decisions", "kept")]
    reporter = subprocess.Popen(
        [sys.executable, "-c", REPORTER, target, *files],
        cwd=REPOSITORY,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    n_left = 0
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.0, 1.0))  # the moment of the kill
    else:
        assert reporter.stdout is not None
        n_left = int(reporter.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.3))
    return reporter, n_left


def test_reporter_and_service_are_killed(tmp_path: Path, start_server: StartServer, connect: Connect) -> None:
    """What `reward` returned for is in the ledger with its value in the end, and the facts are its fold."""
    server = start_server(port=free_port())
    decisions = decide(server.address, connect(server).running())
    (tmp_path / "decisions").write_text("\n".join(decisions))
    chance = random.Random(SEED)
    had_left = 0
    for _ in range(N_KILLS):
        reporter, n_left = start_reporter(server.address, tmp_path, chance)
        if chance.random() < 0.3:
            server.kill()
            time.sleep(chance.uniform(0.0, 0.3))  # it keeps rewards without the service
            reporter.kill()
            server = start_server(port=server.port)
        reporter.kill()
        had_left += n_left > 0
        reporter.communicate()
    kept = [int(line) for line in (tmp_path / "kept").read_text().split()]
    with BanditClient(server.address) as client, RewardOutbox(tmp_path / "rewards.db", client) as outbox:
        assert outbox.flush(60)
        assert outbox.refused() == []
    stored = dict(query(server.database, "SELECT decision, quanta > 0 FROM rewards"))
    lost = [number for number in kept if stored.get(decision_of(decisions[number])) != number % 2]
    assert lost == []
    log.info("%d kept, %d stored, %d of %d found some left", len(kept), len(stored), had_left, N_KILLS)
    assert len(kept) > N_KILLS
    assert had_left
    assert server.terminate() == 0
    verify(server.database)
