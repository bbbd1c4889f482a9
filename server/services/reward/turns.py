"""Turns: how often the outcomes of one decision change within a commit of rewards."""

from collections.abc import Sequence
from typing import Final

from server.store.records import RewardEntry

MAX_TURNS: Final = 16
"""How often the outcomes of one decision may change in a commit: each change takes statements of its own."""


class Turns:
    """Counts, within one commit, how often each decision's rewards differ from the one before."""

    def __init__(self) -> None:
        self._last: dict[bytes, RewardEntry] = {}
        self._n_turns: dict[bytes, int] = {}
        self._barred: set[bytes] = set()

    def has_room_for(self, entries: Sequence[RewardEntry]) -> bool:
        """True if these may follow; if not, bar their decisions from this commit, to keep their order."""
        decisions = {entry.decision for entry in entries}
        if any(self._n_turns.get(d, 0) >= MAX_TURNS or d in self._barred for d in decisions):
            self._barred |= decisions
            return False
        return True

    def take(self, entry: RewardEntry) -> None:
        """Add an entry; an exact repetition of the one before takes no statement."""
        last = self._last.get(entry.decision)
        self._last[entry.decision] = entry
        if last is not None and (last.outcomes, last.revision) != (entry.outcomes, entry.revision):
            self._n_turns[entry.decision] = self._n_turns.get(entry.decision, 0) + 1


def pieces_of(entries: Sequence[RewardEntry]) -> list[Sequence[RewardEntry]]:
    """Cut a call that repeats one decision very often into pieces that each fit in a commit."""
    if len(entries) <= MAX_TURNS or len({entry.decision for entry in entries}) == len(entries):
        return [entries]
    pieces: list[Sequence[RewardEntry]] = []
    turns, start = Turns(), 0
    for number, entry in enumerate(entries):
        if not turns.has_room_for([entry]):
            pieces.append(entries[start:number])
            turns, start = Turns(), number
        turns.take(entry)
    return [*pieces, entries[start:]]
