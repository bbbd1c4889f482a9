"""Simulated worlds, the histories that a bandit collects in them, and the logs of those."""
