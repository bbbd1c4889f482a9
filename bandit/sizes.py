"""Size limits of experiments and addresses, importable without the mathematics."""

import sys
from typing import Final

MAX_ARMS: Final = 1_000
"""Most arms that an experiment may have."""

UNIX_ADDRESS_BYTES: Final = 107 if sys.platform == "linux" else 103
"""Most bytes of a Unix socket's path, by the system's own limit, or of an abstract one's name."""
