"""Harm: that a challenger is worse by more than a margin, that it is not, and signals that hold it."""
