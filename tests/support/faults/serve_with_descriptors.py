"""`bandit-server` with N descriptors: `python -m tests.support.faults.serve_with_descriptors N serve`."""

import resource
import sys

from server.__main__ import main

if __name__ == "__main__":
    n_allowed = int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_allowed, n_allowed))
    main()
