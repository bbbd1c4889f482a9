"""Players, which choose the arms in a simulated problem."""
