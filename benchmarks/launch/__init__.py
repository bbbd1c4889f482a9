"""Launches from the first request to the end, on a clock that is moved: `python -m benchmarks.launch`."""
