"""Run the command line: `python -m benchmarks.outage`."""

from benchmarks.outage.command import main

if __name__ == "__main__":
    main()
