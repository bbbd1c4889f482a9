"""An impatient parent of workers: `python -m tests.support.faults.serve_with_little_patience serve`."""

from server.__main__ import main
from server.app import supervisor

if __name__ == "__main__":
    supervisor._MOST_FAILURES = 2  # type: ignore[misc]
    main()
