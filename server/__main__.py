"""The console script: `bandit-server`, and `python -m server`."""

import io
import os
import sys


def main() -> None:
    """Run the command line and exit: 0 on success, 1 on failure, 2 on wrong usage.

    If the server extra is missing, print one line that names it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal can't show becomes a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core prints text, not JSON; we log it
    try:
        from server.cli.main import cli  # noqa: PLC0415 - the base install has no click; reported below
    except ImportError as error:
        sys.exit(f"bandit-server needs the server extra: pip install 'bandit-allocator[server]' ({error})")
    cli(prog_name="bandit-server")


if __name__ == "__main__":
    main()
