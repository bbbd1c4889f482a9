"""What all benchmarks share: servers as child processes, load, timings, and tables."""
