"""The export: an experiment's epochs, facts and reward log as files that a notebook reads."""
