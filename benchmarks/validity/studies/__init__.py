"""Separate studies: promotion, plans, static splits, and broken assumptions."""
