"""What a fork leaves in the child: gRPC without its threads, and locks that nobody will release.

With grpcio 1.85 on Linux, a new channel in the child of a process that has used gRPC answered, hung for ever
(six children of six with `GRPC_ENABLE_FORK_SUPPORT=0`, one of six where that was unset), or aborted the
process, by that variable and by chance; also where the parent had closed its channel before. A hung call
keeps no deadline.

So no channel is opened in such a child, and none that it inherited is touched, not even to be freed.
"""

import ctypes
import os
import threading
from typing import Protocol
from weakref import WeakSet

from bandit.client.errors import forked_error


class Forkable(Protocol):
    """What has to change in a child before it can be used there."""

    def after_fork(self) -> None:
        """Replace locks, and keep what belongs to gRPC."""


class Holder(Forkable, Protocol):
    """What must be closed for a fork, and stay closed until it is over, such as a connection to SQLite."""

    def before_fork(self) -> None:
        """Close what can't be shared, and hold it closed."""

    def after_fork_in_parent(self) -> None:
        """Let it be opened again."""


class _Process:
    """What is known of gRPC in this process.

    Attributes:
        has_used_grpc: a client has opened a channel, here or in a process that this one was forked from.
        is_spoilt: one had done so before the fork, so that gRPC can't be used here.
        lock: held while the process forks.
    """

    def __init__(self) -> None:
        self.has_used_grpc = False
        self.is_spoilt = False
        self.lock = threading.RLock()


_process = _Process()
_forkables: WeakSet[Forkable] = WeakSet()
_holders: WeakSet[Holder] = WeakSet()
_held: list[Holder] = []


def register(forkable: Forkable) -> None:
    """Have `after_fork` called in each child, for as long as the object lives."""
    _forkables.add(forkable)


def register_holder(holder: Holder) -> None:
    """Have all three methods called at each fork, for as long as the object lives."""
    register(holder)
    with _process.lock:
        _holders.add(holder)


def check() -> None:
    """Raise UnavailableError if a channel was opened before this process was forked."""
    if _process.is_spoilt:
        raise forked_error()


def use_grpc() -> None:
    """Note that a channel is about to be opened in this process; raises as `check` does."""
    check()
    _process.has_used_grpc = True


def keep(inherited: object) -> None:
    """Make an object immortal: freeing it, even when the interpreter ends, would call gRPC."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _before() -> None:
    _process.lock.acquire()  # of two threads that fork, one waits for the other
    _held.extend(_holders)
    for holder in _held:
        holder.before_fork()


def _in_parent() -> None:
    for holder in _held:
        holder.after_fork_in_parent()
    _held.clear()
    _process.lock.release()


def _in_child() -> None:
    _process.is_spoilt = _process.has_used_grpc
    _process.lock = threading.RLock()
    _held.clear()  # it may be empty: a server in C may fork around Python
    for forkable in tuple(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not where processes can't fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
