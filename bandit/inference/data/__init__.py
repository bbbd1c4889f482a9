"""Input of inference: sums by row and arm, centres, pairs of arms, and the declared floors of shares."""
