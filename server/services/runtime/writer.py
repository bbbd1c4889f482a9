"""This run of the server and its registration with the store."""

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
        incarnation: Random id of the run, 16 bytes; its first 24 bits identify the run in decision ids. It
            is replaced if the store has ended the run, or has another run with those bits.
        slot: The slot in which it counts; replaced if the store has given it to another writer.
    """

    incarnation: bytes
    slot: int


async def claim_slot(
    store: AsyncStore, writer: Writer, clock: Clock, *, begin_run: Callable[[], int]
) -> None:
    """Report that a writer is alive, and give it another slot or another incarnation if needed.

    Args:
        store: Registers writers.
        writer: Updated in place.
        clock: The time.
        begin_run: Called once the writer has another incarnation; returns the number of decisions dropped
            with the last one.

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
