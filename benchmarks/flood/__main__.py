"""Run the command line: `python -m benchmarks.flood`."""

from benchmarks.flood.command import main

if __name__ == "__main__":
    main()
