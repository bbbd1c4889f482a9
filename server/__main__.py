"""The console script: `bandit-server`, and `python -m server`."""

import os
import sys

from server import standard_streams


def main() -> None:
    """Run the command line and exit: 0 on success, 1 on failure, 2 on wrong usage.

    Output that can't be written is a failure, unless its reader has closed the pipe.

    If the server extra is missing, print one line that names it.
    """
    standard_streams.prepare()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core prints text, not JSON; we log it
    try:
        from server.cli.main import cli  # noqa: PLC0415 - the base install has no click; reported below
    except ImportError as error:
        sys.exit(f"bandit-server needs the server extra: pip install 'bandit-allocator[server]' ({error})")
    try:
        cli(prog_name="bandit-server")
    except SystemExit as end:
        sys.exit(standard_streams.exit_code(end.code))


if __name__ == "__main__":
    main()
