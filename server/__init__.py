"""The service: settings and command line, RPC, services, store; each layer knows only those below it."""

from bandit import DISTRIBUTION

__all__ = ["DISTRIBUTION"]
