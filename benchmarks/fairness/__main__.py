"""Run the command line: `python -m benchmarks.fairness`."""

from benchmarks.fairness.command import main

if __name__ == "__main__":
    main()
