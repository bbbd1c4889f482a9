"""Simulated worlds, the histories that a bandit collects in them, and their logs."""
