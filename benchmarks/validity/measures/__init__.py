"""Measurements of a simulated run: verdicts, coverage, and z-tests for comparison."""
