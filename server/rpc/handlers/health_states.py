"""The health of each service: one state, however many transports serve it."""

from collections.abc import Callable
from typing import Final

from grpc_health.v1 import health_pb2

SERVICE_UNKNOWN: Final = int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


class HealthStates:
    """The health of each service, and who watches it. Belongs to the event loop's thread.

    A status is a number of the enumeration in gRPC's health protocol, such as 1 for SERVING.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._watches: dict[str, dict[object, Callable[[int], None]]] = {}

    def set(self, service: str, status: int) -> None:
        """Set the health of a service, and tell its watches if it has changed."""
        if self._statuses.get(service) == status:
            return
        self._statuses[service] = status
        for on_change in tuple(self._watches.get(service, {}).values()):
            on_change(status)

    def get(self, service: str) -> int | None:
        """Return the health of a service; None for one that is not known."""
        return self._statuses.get(service)

    def watch(self, service: str, on_change: Callable[[int], None]) -> Callable[[], None]:
        """Call `on_change` with the health of a service, now and whenever it changes.

        A service that is not known has SERVICE_UNKNOWN, and may become known.

        Returns:
            The function that ends the watch; it may be called twice.
        """
        watch = object()
        self._watches.setdefault(service, {})[watch] = on_change

        def end() -> None:
            others = self._watches.get(service, {})
            others.pop(watch, None)
            if not others:
                self._watches.pop(service, None)

        on_change(self._statuses.get(service, SERVICE_UNKNOWN))
        return end
