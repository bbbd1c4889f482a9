"""A server that freezes itself: `python -m tests.support.faults.serve_freezing serve`.

After SIGUSR1 it stops before the next move of a launch, which it has decided on and not begun. After SIGUSR2
it stops inside the transaction of its next change of an experiment, which it has not committed.
"""

import os
import signal
from typing import Any

from sqlalchemy import Engine, event

from server.__main__ import main
from server.services.experiments.lifecycle import Experiments
from server.store.records import LiveExperiment

_wanted: set[int] = set()
_move = Experiments.move


def _want(number: int, _: object) -> None:
    _wanted.add(number)


def _pass_by(number: int) -> None:
    """Stop here, if the signal of this place has come."""
    if number in _wanted:
        _wanted.remove(number)
        os.kill(os.getpid(), signal.SIGSTOP)


async def _freeze_and_move(self: Experiments, *arguments: Any, **options: Any) -> LiveExperiment:
    _pass_by(signal.SIGUSR1)
    return await _move(self, *arguments, **options)


def _note_statement(*arguments: object) -> None:
    if str(arguments[2]).startswith("INSERT INTO configurations"):
        _pass_by(signal.SIGUSR2)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _want)
    signal.signal(signal.SIGUSR2, _want)
    Experiments.move = _freeze_and_move  # type: ignore[method-assign]
    event.listen(Engine, "after_cursor_execute", _note_statement)
    main()
