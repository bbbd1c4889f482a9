"""Choose: an arm for a unit, its propensity, and the count of the decision."""
