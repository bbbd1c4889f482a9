"""Launches in a whole service on a file, with a clock that the test moves."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from bandit.experiment import Experiment
from tests.services.launch.launched import Launched
from tests.services.support import ManualClock
from tests.services.whole.service import WholeService
from tests.store.builders import facts_of

Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path, clock: ManualClock) -> Iterator[Launch]:
    """Start an experiment with a launch, in a service of its own; at the end its facts are those of its log.

    With `trust_after`, the service checks its clock as a server does; otherwise it believes it.
    """
    running: list[WholeService] = []

    def start(experiment: Experiment, *, trust_after: timedelta | None = None) -> Launched:
        url = f"sqlite:///{tmp_path / f'launch-{len(running)}.db'}"
        running.append(WholeService(url, clock, trust_after=trust_after))
        return Launched(running[-1], clock, experiment)

    yield start
    for service in running:
        service.flush()
        facts_of(service.store)
        with suppress(RuntimeError):
            service.stop()
