"""Reward: outcomes are checked, queued, and acknowledged once they are committed."""
