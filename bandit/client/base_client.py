"""What the blocking client and that of asyncio have in common: how they are set up."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from os import PathLike

import grpc

from bandit.client.credentials import Tls
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
        tls: certificates; None for plain text.
        token: a bearer token, or a path (not a text) to a file that holds one, which is read again when the
            service refuses it; either needs TLS or a loopback target.
        credentials: of the channel, made by the caller, in place of `tls`.
        options: gRPC channel options that replace the client's own.

    Raises:
        TypeError: the target is no text.
        ValueError: the target is empty or a URL, a duration is not more than zero, the token would leave the
            machine in plain text, or there are both `tls` and `credentials`.
        OSError: a file of `tls` or `token` can't be read.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        choose_timeout: float = 0.05,
        batch_choose_timeout: float = 0.5,
        experiment_timeout: float = 10.0,
        retry: RetryPolicy | None = None,
        tls: Tls | None = None,
        token: str | PathLike[str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        check_seconds("choose_timeout", choose_timeout)
        check_seconds("batch_choose_timeout", batch_choose_timeout)
        check_seconds("experiment_timeout", experiment_timeout)
        self._choose_timeout = choose_timeout
        self._batch_choose_timeout = batch_choose_timeout
        self._retry = retry or RetryPolicy()
        self._fallbacks = Fallbacks()
        if tls is not None:
            if credentials is not None:
                raise ValueError("tls and credentials exclude each other")
            credentials = tls.read()
        endpoint = Endpoint(target=target, credentials=credentials, token=token, options=options)
        self._set_up(endpoint, experiment_timeout)

    @abstractmethod
    def _set_up(self, endpoint: Endpoint, experiment_timeout: float) -> None:
        """Makes the connection, unopened, and the experiment calls."""
