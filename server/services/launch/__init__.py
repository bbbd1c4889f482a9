"""Launches: which server acts for them."""
