"""Forks of the process: every outbox closes its file before one, since SQLite survives none.

A web server may load the program once and fork its workers. Each of them opens the file again when it needs
it.
"""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from typing import Final


class Forkable(ABC):
    """What must be made ready for a fork."""

    @abstractmethod
    def before_fork(self) -> None:
        """Close what can't be shared, and hold it closed."""

    @abstractmethod
    def after_fork_in_parent(self) -> None:
        """Let it be opened again."""

    @abstractmethod
    def after_fork_in_child(self) -> None:
        """Let it be opened again; the only thread is the caller's."""


class Forks:
    """Calls everything that is registered at each fork of the process."""

    def __init__(self) -> None:
        self._registered: weakref.WeakSet[Forkable] = weakref.WeakSet()
        self._held: list[Forkable] = []
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before,
                after_in_parent=self._after_in_parent,
                after_in_child=self._after_in_child,
            )

    def register(self, forkable: Forkable) -> None:
        """Call its methods at forks, for as long as it lives."""
        with self._lock:
            self._registered.add(forkable)

    def _before(self) -> None:
        self._lock.acquire()  # of two threads that fork, one waits for the other
        self._held = list(self._registered)
        for each in self._held:
            each.before_fork()

    def _after_in_parent(self) -> None:
        for each in self._held:
            each.after_fork_in_parent()
        self._held = []
        self._lock.release()

    def _after_in_child(self) -> None:
        self._lock = threading.RLock()
        for each in self._registered:  # without `before` too: a server in C may fork around Python
            each.after_fork_in_child()
        self._held = []


FORKS: Final = Forks()
