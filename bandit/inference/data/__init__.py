"""Input of inference: sums by epoch and arm, and the declared floors of shares."""
