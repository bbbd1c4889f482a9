"""The commands of `bandit-server`, one module each."""
