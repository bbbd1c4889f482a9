"""Access: callers, their tokens, and their rate limits."""
