"""The verdict: what the tests establish together, and what to do about it."""
