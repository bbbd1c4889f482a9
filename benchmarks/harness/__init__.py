"""Shared parts of the benchmarks: servers as child processes, load, timings, and tables."""
