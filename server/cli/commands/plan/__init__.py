"""`bandit-server plan`: what to expect of an experiment, before the start."""
