"""A coverage-guided fuzzer: `python -m tests.fuzz NAME [FOLDER ...] [FLAG ...]` runs the one of this name.

Folders and flags are those of libFuzzer; the module of each target has its command.
"""

import importlib
import sys


def main() -> None:
    """Run the target that the first argument names until it fails, or time is over."""
    atheris = importlib.import_module("atheris")
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["bandit.client.http2", "server.http2"]):
        target = importlib.import_module(f"tests.fuzz.{name}_fuzzer")
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
