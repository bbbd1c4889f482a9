"""Replay of real events: what a policy would have earned on logged data."""
