"""A caller who does nothing wrong, beside those who do."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from bandit.v1 import bandit_pb2
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, Wire

_Answer = TypeVar("_Answer")

METRIC: Final = "click"
_FEWEST_CALLS: Final = 20
_PUSHBACK: Final = "grpc-retry-pushback-ms"
_PAUSE_SECONDS: Final = 0.002


class GoodCaller:
    """Calls Choose and Reward in turn on one connection while the block runs, and at least twenty times.

    At the end of the block every call must have been answered, or refused for now with a delay.

    Args:
        wire: The connection, which it takes as it is: it may have been open before.
        name: The experiment, which runs and has a metric `click`.

    Attributes:
        ends: Status mapped to how many calls ended with it.
        waits: Seconds of the calls that were answered.
    """

    def __init__(self, wire: Wire, name: str) -> None:
        self.ends: Counter[grpc.StatusCode] = Counter()
        self.waits: list[float] = []
        self._wire = wire
        self._name = name
        self._without_delay: list[grpc.StatusCode] = []
        self._is_over = Event()
        self._thread = Thread(target=self._call_on)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; if the block has not failed, look at how the calls ended."""
        self._is_over.set()
        self._thread.join()
        if exception is None:
            assert self.ends.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert self.ends[grpc.StatusCode.OK] >= _FEWEST_CALLS
            assert self._without_delay == []

    @property
    def is_answered(self) -> bool:
        """True if no call was refused."""
        return self.ends.keys() == {grpc.StatusCode.OK}

    def _call_on(self) -> None:
        stub = self._wire.bandit
        choose = bandit_pb2.ChooseRequest(experiment=self._name)
        while not self._is_over.is_set() or self.ends.total() < _FEWEST_CALLS:
            chosen = self._call(partial(stub.Choose, choose, timeout=CALL_SECONDS))
            if chosen is not None:
                reward = bandit_pb2.RewardRequest(decision_id=chosen.decision_id, outcomes={METRIC: 1.0})
                self._call(partial(stub.Reward, reward, timeout=CALL_SECONDS))
            self._is_over.wait(_PAUSE_SECONDS)

    def _call(self, ask: Callable[[], _Answer]) -> _Answer | None:
        asked_at = time.monotonic()
        try:
            answer = ask()
        except grpc.RpcError as error:
            call = call_of(error)
            self.ends[call.code()] += 1
            if _PUSHBACK not in dict(call.trailing_metadata() or ()):
                self._without_delay.append(call.code())
            return None
        self.ends[grpc.StatusCode.OK] += 1
        self.waits.append(time.monotonic() - asked_at)
        return answer
