"""Entry point of `python -m benchmarks.regret`."""

from benchmarks.regret.command import main

if __name__ == "__main__":
    main()
