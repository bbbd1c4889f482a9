"""Webhooks of a server, and the commands that look at what they have not taken."""

import asyncio
from collections.abc import Sequence
from typing import Final

from server.app.clock_maintenance import opened_beside
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.services.runtime.reloading_file import ReloadingFile
from server.services.webhooks.dispatcher import WebhookDispatcher
from server.services.webhooks.endpoints_file import Endpoint, WebhooksFileError, load_endpoints
from server.settings import Settings, SettingValues
from server.store.records import Delivery, DeliveryState

_MOST_LISTED: Final = 1_000


class Webhooks:
    """The webhooks of a server, whose file is loaded again when it changes.

    Args:
        settings: Name the file.
        store: Has the events.
        clock: The time.

    Attributes:
        dispatcher: Delivers the events.

    Raises:
        WebhooksFileError: The file can't be used.
    """

    def __init__(self, settings: Settings, store: AsyncStore, clock: Clock) -> None:
        path = settings.webhooks
        self._file: ReloadingFile[tuple[Endpoint, ...]] | None = None
        if path is not None:
            self._file = ReloadingFile("webhooks", [path], lambda: load_endpoints(path), WebhooksFileError)
        self.dispatcher = WebhookDispatcher(store, clock, self._endpoints)

    async def look(self) -> None:
        """Load the file if it changed, and deliver what is due."""
        if self._file is not None:
            await asyncio.to_thread(self._file.look)
            await self.dispatcher.look()

    def _endpoints(self) -> Sequence[Endpoint]:
        return () if self._file is None else self._file.value


def list_deliveries(settings: SettingValues, *, only_dead: bool) -> Sequence[Delivery]:
    """Return what webhooks have not taken, at most a thousand.

    Raises:
        StartupError: The database can't be opened.
    """
    with opened_beside(settings) as store:
        return store.list_deliveries(_MOST_LISTED, DeliveryState.DEAD if only_dead else None)


def resend_deliveries(
    settings: SettingValues, endpoint: str, *, experiment: str | None, sequence: int | None
) -> int:
    """Let servers send dead deliveries again; return how many there were.

    Raises:
        StartupError: The database can't be opened or written.
    """
    with opened_beside(settings) as store:
        return store.revive_deliveries(endpoint, Clock().now(), experiment=experiment, sequence=sequence)
