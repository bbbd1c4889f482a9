"""`python -m tests.support.serve_with_little_patience serve …`: a parent of workers that gives up early."""

from server.__main__ import main
from server.app import supervisor

if __name__ == "__main__":
    supervisor._MOST_FAILURES = 2  # type: ignore[misc]
    main()
