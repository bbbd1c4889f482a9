"""Studies of their own: promotion, plans, static splits, and broken assumptions."""
