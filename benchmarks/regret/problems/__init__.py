"""Bandit problems: the arms' means over time, and the distribution and delay of outcomes."""
