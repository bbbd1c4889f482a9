"""Entry point of `python -m benchmarks.validity`."""

from benchmarks.validity.command import main

if __name__ == "__main__":
    main()
