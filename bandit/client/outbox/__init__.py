"""Rewards that are kept in a file until the service has acknowledged them."""
