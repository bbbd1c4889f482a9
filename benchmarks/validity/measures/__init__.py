"""What is measured of a simulated run: decisions, coverage, and what a z-test would say."""
