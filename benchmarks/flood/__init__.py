"""Bursts of honest calls, and a flood of calls that never send their requests."""
