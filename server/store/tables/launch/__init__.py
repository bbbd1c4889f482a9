"""Launches in SQL: the lease of the server that acts, the last looks, and the requests carried out."""
