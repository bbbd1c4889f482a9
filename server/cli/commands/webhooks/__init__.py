"""`bandit-server webhooks`."""
