"""Who may call: callers, their tokens, and their rate limits."""
