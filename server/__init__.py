"""The service: command line, settings, RPC, services and store; each layer imports only those below it."""

from bandit import DISTRIBUTION

__all__ = ["DISTRIBUTION"]
