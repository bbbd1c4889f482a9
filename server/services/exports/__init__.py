"""Exports: an experiment's epochs, facts and reward log as files for a notebook."""
