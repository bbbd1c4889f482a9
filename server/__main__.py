"""The console script: `bandit-server`, and `python -m server`."""

import io
import os
import sys


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 called wrongly.

    Without the server extra it says so in one line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that can't show a character shows a question mark, and no traceback.
            stream.reconfigure(errors="replace")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core prints is no JSON, and is said by us
    try:
        from server.cli.main import cli  # noqa: PLC0415 - the base install has no click, and is told here
    except ImportError as error:
        sys.exit(f"bandit-server needs the server extra: pip install 'bandit-allocator[server]' ({error})")
    cli(prog_name="bandit-server")


if __name__ == "__main__":
    main()
