"""Players: what chooses arms in a simulated problem."""
