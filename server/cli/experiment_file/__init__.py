"""Experiments as TOML files: read, written, and compared."""
