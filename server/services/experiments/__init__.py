"""Experiments: their lifecycle and their epochs."""
