"""How large an experiment may be, for those who need to know it without the mathematics."""

from typing import Final

MAX_ARMS: Final = 1_000
"""Arms of an experiment."""
