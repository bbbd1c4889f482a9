"""Run the command line: `python -m benchmarks.durable`."""

from benchmarks.durable.command import main

if __name__ == "__main__":
    main()
