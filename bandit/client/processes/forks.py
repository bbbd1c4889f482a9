"""What a fork leaves in the child: gRPC without its threads, and locks that nobody will release.

With grpcio 1.85 on Linux, a new channel in the child of a process that has used gRPC answered, hung for ever
(six children of six with `GRPC_ENABLE_FORK_SUPPORT=0`, one of six where that was unset), or aborted the
process, by that variable and by chance; also where the parent had closed its channel before. A hung call
keeps no deadline.

So no channel is opened in such a child, and none that it inherited is touched, not even to be freed.
"""

import ctypes
import os
from typing import Protocol
from weakref import WeakSet

from bandit.client.errors import forked_error


class Forkable(Protocol):
    """What has to change in a child before it can be used there."""

    def after_fork(self) -> None:
        """Replace locks, and keep what belongs to gRPC."""


class _Process:
    """What is known of gRPC in this process.

    Attributes:
        has_used_grpc: a client has opened a channel, here or in a process that this one was forked from.
        is_spoilt: one had done so before the fork, so that gRPC can't be used here.
    """

    def __init__(self) -> None:
        self.has_used_grpc = False
        self.is_spoilt = False


_process = _Process()
_forkables: WeakSet[Forkable] = WeakSet()


def register(forkable: Forkable) -> None:
    """Have `after_fork` called in each child, for as long as the object lives."""
    _forkables.add(forkable)


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


def _in_child() -> None:
    _process.is_spoilt = _process.has_used_grpc
    for forkable in tuple(_forkables):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not where processes can't fork
    os.register_at_fork(after_in_child=_in_child)
