"""This run of the server, as the store knows it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from server.services.runtime.async_store import AsyncStore
from server.services.runtime.clock import Clock
from server.store.errors import RunTakenError

log = structlog.get_logger()


@dataclass(slots=True)
class Writer:
    """A writer of facts.

    Attributes:
        incarnation: Random mark of the run, 16 bytes; its first 24 bits stand for the run in decision ids.
            Another one once the store has ended the run, or knows another of those bits.
        slot: Where it counts; another one once the store has given the first away.
    """

    incarnation: bytes
    slot: int


async def claim_slot(
    store: AsyncStore, writer: Writer, clock: Clock, *, begin_run: Callable[[], int]
) -> None:
    """Report that a writer lives, and give it another slot, or another incarnation, where needed.

    Args:
        store: Where writers are registered.
        writer: Updated in place.
        clock: Its time.
        begin_run: Called once the writer has another incarnation; returns the number of decisions that are
            dropped with the last one.

    Raises:
        StoreError: The slot is unchanged; the incarnation may be a new one that no other run has.
    """
    while True:
        try:
            writer.slot = await store.claim_slot(writer.incarnation, clock.now())
        except RunTakenError:
            before, writer.incarnation = writer.incarnation, secrets.token_bytes(16)
            log.warning(
                "run.changed",
                before=before.hex()[:8],
                now=writer.incarnation.hex()[:8],
                dropped_decisions=begin_run(),
            )
        else:
            return
