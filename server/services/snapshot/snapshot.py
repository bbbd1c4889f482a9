"""The snapshot: the experiments in memory, which Choose reads instead of the database.

It belongs to the event loop's thread. Each experiment in it is an immutable value that is replaced as a
whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

from bandit.facts import Epoch
from server.services.runtime.clock import Clock
from server.services.snapshot.offers import CompiledExperiment
from server.store.records import Changes, LiveExperiment

_NEVER: Final = float("-inf")


class Snapshot:
    """Experiments by name and number, compiled when first asked for.

    Args:
        clock: Measures the age of the snapshot.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._live: dict[int, LiveExperiment] = {}
        self._numbers: dict[str, int] = {}
        self._compiled: dict[str, CompiledExperiment] = {}
        self._dropped_at: dict[int, float] = {}
        self._confirmed_at = _NEVER
        self._is_restored = False
        self.watermark: int | None = None

    def find(self, name: str) -> CompiledExperiment | None:
        """Return the experiment with this name, if it is here and not a draft."""
        found = self._compiled.get(name)
        return self._compile(name) if found is None else found

    def find_live(self, number: int) -> LiveExperiment | None:
        """Return the experiment with this number, if it is here."""
        return self._live.get(number)

    def find_by_name(self, name: str) -> LiveExperiment | None:
        """Return the experiment with this name, if it is here, drafts included."""
        return self._live.get(self._numbers.get(name, 0))

    def __iter__(self) -> Iterator[LiveExperiment]:
        """Iterate over every experiment."""
        return iter(list(self._live.values()))

    @property
    def age_seconds(self) -> float:
        """Seconds since the store last confirmed the snapshot; infinite before the first time."""
        return self._clock.monotonic() - self._confirmed_at

    @property
    def is_restored(self) -> bool:
        """True if the store has not confirmed the snapshot since the start."""
        return self._is_restored

    @property
    def age(self) -> timedelta:
        """Time since the store last confirmed the snapshot; at most a year."""
        return timedelta(seconds=min(max(self.age_seconds, 0.0), 365 * 86_400))

    def restore(self, live: Iterable[LiveExperiment], age_seconds: float) -> None:
        """Load experiments kept outside the store; the first load from the store replaces all of them.

        Args:
            live: Every experiment that was started.
            age_seconds: How long ago the store confirmed them.
        """
        for each in live:
            self.put(each)
        self._is_restored = True
        self._confirmed_at = self._clock.monotonic() - age_seconds

    def apply(self, changes: Changes, asked_at: float) -> list[int]:
        """Apply a load; return the numbers of experiments that are new or changed here.

        Args:
            changes: The loaded changes.
            asked_at: The clock's monotonic time when the store was asked, from which the age counts.
        """
        if self._is_restored:  # the store may lack restored experiments, or be an older backup
            self.clear()
        # A load that was asked for before a deletion may arrive after it; a later one knows of it.
        self._dropped_at = {number: at for number, at in self._dropped_at.items() if at >= asked_at}
        kept = (live for live in changes.live if live.record.number not in self._dropped_at)
        changed = [live.record.number for live in kept if self.put(live)]
        for number in changes.deleted:
            self.drop(number)
        for number in changes.unreadable:
            self._doubt(number)
        self.watermark = changes.watermark
        self._confirmed_at = max(self._confirmed_at, asked_at)
        return changed

    def clear(self) -> None:
        """Forget everything, as before the first load."""
        self._live.clear()
        self._numbers.clear()
        self._compiled.clear()
        self._dropped_at.clear()
        self._is_restored = False
        self._confirmed_at = _NEVER
        self.watermark = None

    def put(self, live: LiveExperiment) -> bool:
        """Replace one experiment, unless it is at least as new here; return whether it was replaced."""
        known = self._live.get(live.record.number)
        if known is not None and _version(known) >= _version(live):
            return False
        self._live[live.record.number] = live
        self._numbers[live.record.name] = live.record.number
        self._compiled.pop(live.record.name, None)
        return True

    def put_epoch(self, epoch: Epoch) -> None:
        """Put an epoch in force, unless it was computed from a revision that is not here yet."""
        known = self._live.get(epoch.experiment)
        if known is not None and epoch.revision <= known.record.revision:
            self.put(LiveExperiment(known.record, epoch))

    def drop(self, number: int) -> None:
        """Forget an experiment that was deleted."""
        self._dropped_at[number] = self._clock.monotonic()
        known = self._live.pop(number, None)
        if known is not None:
            self._numbers.pop(known.record.name, None)
            self._compiled.pop(known.record.name, None)

    def _doubt(self, number: int) -> None:
        """Let the champion answer for an experiment of a newer release that this one can't read."""
        known = self._live.get(number)
        if known is not None and not known.record.unknown:
            self._live[number] = LiveExperiment(replace(known.record, unknown=("all of it",)), known.epoch)
            self._compiled.pop(known.record.name, None)

    def _compile(self, name: str) -> CompiledExperiment | None:
        live = self.find_by_name(name)
        if live is None or live.epoch is None:
            return None
        compiled = self._compiled[name] = CompiledExperiment(live.record, live.epoch)
        return compiled


def _version(live: LiveExperiment) -> tuple[int, int]:
    """Return the sort key of one experiment's states: revision, then epoch."""
    return live.record.revision, 0 if live.epoch is None else live.epoch.number
