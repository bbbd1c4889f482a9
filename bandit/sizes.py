"""Size limits of an experiment, importable without the mathematics."""

from typing import Final

MAX_ARMS: Final = 1_000
"""Most arms that an experiment may have."""
