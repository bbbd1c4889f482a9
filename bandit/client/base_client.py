"""What the blocking client and that of asyncio have in common: how they are set up."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import grpc

from bandit.client.endpoint import DEFAULT_TARGET, Endpoint
from bandit.client.fallbacks import Fallbacks
from bandit.client.retry import RetryPolicy, check_seconds


class BaseClient(ABC):
    """A client that is set up and not connected.

    Args:
        target: where the service is, in gRPC's notation.
        choose_timeout: how long `choose` waits before it serves the fallback, in seconds.
        batch_choose_timeout: the same for `batch_choose`.
        experiment_timeout: how long each experiment call may take, in seconds.
        retry: how long and how often a reward is tried.
        credentials: of the channel; None for plain text.
        token: a bearer token; it needs credentials or a loopback target.
        options: gRPC channel options that replace the client's own.

    Raises:
        ValueError: a duration is not more than zero, or the token would leave the machine in plain text.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        choose_timeout: float = 0.05,
        batch_choose_timeout: float = 0.5,
        experiment_timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        check_seconds("choose_timeout", choose_timeout)
        check_seconds("batch_choose_timeout", batch_choose_timeout)
        check_seconds("experiment_timeout", experiment_timeout)
        self._choose_timeout = choose_timeout
        self._batch_choose_timeout = batch_choose_timeout
        self._retry = retry or RetryPolicy()
        self._fallbacks = Fallbacks()
        endpoint = Endpoint(target=target, credentials=credentials, token=token, options=options)
        self._set_up(endpoint, experiment_timeout)

    @abstractmethod
    def _set_up(self, endpoint: Endpoint, experiment_timeout: float) -> None:
        """Makes the connection, unopened, and the experiment calls."""
