"""Run the command line: `python -m benchmarks.throughput`."""

from benchmarks.throughput.command import main

if __name__ == "__main__":
    main()
