"""Experiment files in TOML: reading, writing and comparing."""
