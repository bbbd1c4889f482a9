"""Checks and measurements around every method: authentication, permissions, limits and metrics."""
